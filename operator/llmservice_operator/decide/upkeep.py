"""What a service needs whose spec can't be acted upon: all that keeps the plan in force serving, and no other plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.workload import AccessMode
from llmservice_operator.children.deployment import deployment
from llmservice_operator.children.disruption_budget import disruption_budget
from llmservice_operator.children.network_policy import network_policy
from llmservice_operator.children.pod_monitor import pod_monitor
from llmservice_operator.children.service import service as child_service
from llmservice_operator.children.service_account import own_account
from llmservice_operator.decide.rollout import decide_in, in_place
from llmservice_operator.facts.access import access_of
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.live import Live
from llmservice_operator.facts.owner import Json, Owner


@dataclass(frozen=True, slots=True)
class Upkeep:
    """`in_force` is the plan that replicas run; None = there never was one, and nothing is made."""

    in_force: Frozen | None = None
    apply: tuple[Json, ...] = ()
    requeue_after: float | None = None


def upkeep(owner: Owner, live: Live, spec: Json, config: OperatorConfig, now: datetime) -> Upkeep:
    """Of `spec` only the number of replicas is read, how they are reached, and whose account and claim they are."""
    frozen = live.running()
    if frozen is None:
        return Upkeep()
    return Upkeep(frozen, tuple(_children(owner, live, frozen, spec, config, now)), decide_in(live, frozen.name, now))


def _children(
    owner: Owner, live: Live, frozen: Frozen, spec: Json, config: OperatorConfig, now: datetime
) -> Iterator[Json]:
    """As `decision` has them, in the same order."""
    account = own_account(owner)
    if spec.get("serviceAccountName") is None and _pod(frozen).get("serviceAccountName") == account["metadata"]["name"]:
        yield account
    yield child_service(owner)
    yield network_policy(owner, access_of(spec, config), config)
    yield disruption_budget(owner)
    if config.monitoring is not None and config.monitoring.covers(owner.namespace):
        yield pod_monitor(owner, config.monitoring)
    replicas: int = spec.get("replicas", 1)
    if _one_node(frozen, live):
        replicas = min(replicas, 1)
    if not replicas or live.claim is not None or not _makes_claim(spec):  # a claim anew would hold nothing
        yield deployment(owner, frozen, replicas, in_place(live, frozen.name, now))


def _one_node(frozen: Frozen, live: Live) -> bool:
    """Whether the cache's claim would tie all replicas to one node: there is one then."""
    if live.claim is None or AccessMode.READ_WRITE_MANY in live.claim["spec"].get("accessModes", ()):
        return False
    claims = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in _pod(frozen).get("volumes", ())]
    return live.claim["metadata"]["name"] in claims


def _makes_claim(spec: Json) -> bool:
    """Whether the cache is on a claim of the service's own."""
    claim = (spec.get("cache") or {}).get("persistentVolumeClaim") or {}
    return claim.get("size") is not None


def _pod(frozen: Frozen) -> Json:
    found: Json = frozen.template["spec"]
    return found
