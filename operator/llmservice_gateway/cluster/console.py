"""What the console's page shows of a cluster's services beyond what the gateway routes by.

Replicas and the operator are asked where they tell it to Prometheus and `llmservice explain` as well; of the API server
only Events of a service are asked, and where the operator's pod is. All of it when somebody looks, and not otherwise.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import aiohttp
from pydantic_core import from_json

from llmservice_api import v1alpha1 as api
from llmservice_api.demand_lease import ServiceDemand
from llmservice_gateway.cluster.endpoints import Known, known
from llmservice_gateway.cluster.queues import ANSWER_SECONDS, read_of
from llmservice_gateway.console.facts import CLUSTER, Json, Told
from llmservice_gateway.console.summary import State
from llmservice_kube.cache import Cache
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import EVENT, LEASE, LLM_SERVICE, POD
from llmservice_runtime.contract.listening import in_url
from llmservice_runtime.contract.plain import plain
from llmservice_runtime.contract.ports import SUPERVISOR_PORT
from llmservice_runtime.contract.report import Phase

OPERATOR_LEASE = "llmservice-operator"
OPERATOR_PORT = 8081
LEADER_SECONDS = 30.0
"""The leader is looked up again after so long."""
MOST_REPLICAS = 32
"""Replicas of a service that are asked; the others are listed."""
MOST_EVENTS = 50
MOST_BYTES = 256 << 10
LONGEST = 1000
"""Characters of a sentence."""
API_SECONDS = 5.0
NOT_MANAGED = {
    "External": "An autoscaler of its own decides, through /scale.",
    "Fixed": "spec.replicas decides; spec.scaling waits until its mode is Managed.",
}


class ClusterFacts:
    """`Facts` of a gateway in a cluster. `others` tells what other gateways have of a service."""

    place = CLUSTER

    def __init__(
        self,
        client: Client,
        cache: Cache,
        namespace: str,
        others: Callable[[str], ServiceDemand],
        supervisor_port: int = SUPERVISOR_PORT,
        operator_port: int = OPERATOR_PORT,
    ) -> None:
        self._client, self._cache, self._namespace, self._others = client, cache, namespace, others
        self._supervisor_port, self._operator_port = supervisor_port, operator_port
        self._leader: tuple[str, float] = ("", -math.inf)

    def object(self, service: str) -> Json | None:
        """As the watch last had it."""
        namespace, _, name = service.partition("/")
        return self._cache.get(LLM_SERVICE, namespace, name)

    def wanted(self, service: str) -> int | None:
        """As /scale says."""
        obj = self.object(service)
        return int(obj["spec"].get("replicas", 1)) if obj else None

    def elsewhere(self, service: str) -> tuple[int, int]:
        """As their Leases tell."""
        theirs = self._others(service)
        return theirs.held, theirs.in_flight

    async def replicas(self, service: str) -> Sequence[Json]:
        """Pods that have an address, with what their supervisors say."""
        namespace, _, name = service.partition("/")
        pods = known(name, self._cache.of((namespace, name)))
        said = await _said(
            {pod.name: f"http://{in_url(pod.address)}:{self._supervisor_port}/status" for pod in pods[:MOST_REPLICAS]}
        )
        return [replica(pod, said.get(pod.name)) for pod in pods]

    async def events(self, service: str) -> Told:
        """What was told of the service itself, also of its pods in the operator's words."""
        namespace, _, name = service.partition("/")
        of = f"involvedObject.kind={api.KIND},involvedObject.name={name}"
        try:
            async with asyncio.timeout(API_SECONDS):
                found = (await self._client.list(EVENT, namespace, fields=of)).items
        except TimeoutError:
            return Told([], "The API server does not answer.")
        except ApiError as error:
            return Told([], f"Events can't be read: {error}")
        return Told(_events(found))

    async def explain(self, service: str) -> Told:
        """As the operator that leads explains it."""
        scaling = ((self.object(service) or {}).get("spec") or {}).get("scaling")
        if scaling is None:
            return Told(note="It has no spec.scaling: spec.replicas decides.")
        if (mode := scaling.get("mode", "Managed")) in NOT_MANAGED:
            return Told(note=NOT_MANAGED[mode])
        try:
            async with asyncio.timeout(API_SECONDS):
                address = await self._operator()
        except TimeoutError:
            return Told(note="The API server does not answer.")
        except ApiError as error:
            return Told(note=f"The operator can't be found: {error}")
        if not address:
            return Told(note="No operator leads now.")
        told = (await _said({"": f"http://{in_url(address)}:{self._operator_port}/scaling/{service}"})).get("")
        if told is None:
            self._leader = ("", -math.inf)
            return Told(note="The operator does not answer now.")
        return Told(told) if "service" in told else Told(note=f"The operator says: {_cut(told.get('error'))}.")

    async def _operator(self) -> str:
        """The address of the operator's pod that leads; empty when none does."""
        now = asyncio.get_running_loop().time()
        address, asked = self._leader
        if now - asked < LEADER_SECONDS:
            return address
        leases = await self._client.list(LEASE, self._namespace, fields=f"metadata.name={OPERATOR_LEASE}")
        lease = next((one for one in leases.items if one["metadata"]["name"] == OPERATOR_LEASE), {})
        holder = str((lease.get("spec") or {}).get("holderIdentity") or "")
        pod = await self._client.get(POD, self._namespace, holder.rpartition("_")[0]) if holder else None
        address = str(((pod or {}).get("status") or {}).get("podIP") or "")
        self._leader = address, now
        return address


async def _said(urls: Mapping[str, str]) -> dict[str, Json]:
    """What each answers, if it is an object; others are not in it."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        bodies = await asyncio.gather(*(read_of(session, url, MOST_BYTES) for url in urls.values()))
    found = {}
    for name, body in zip(urls, bodies, strict=True):
        try:
            said = from_json(body or b"")
        except ValueError:
            continue
        if isinstance(said, dict):
            found[name] = said
    return found


def replica(pod: Known, said: Mapping[str, Any] | None) -> Json:
    """A pod as the page has it. `said` by its supervisor, which need not be what we shipped; None = nothing."""
    told = said or {}
    failure = told.get("last_failure") if not pod.ready else None
    return {
        "name": pod.name,
        "state": _state(pod, told).value,
        "phase": _cut(told.get("phase")) or None,
        "percent": _number(told.get("percent")),
        "etaSeconds": _number(told.get("eta_seconds")) if not pod.ready else None,
        "running": _number(told.get("running")) or 0,
        "waiting": _number(told.get("waiting")) or 0,
        "restarts": _number(told.get("restarts")) or 0,
        "gpus": [],
        "failure": _failure(failure) if isinstance(failure, Mapping) else None,
        "note": "" if said is not None else "It does not say how far it is.",
    }


def _state(pod: Known, told: Mapping[str, Any]) -> State:
    if pod.ends or told.get("draining") is True:
        return State.DRAINING
    if pod.ready:
        return State.READY
    return State.FAILED if told.get("phase") == Phase.FAILED else State.STARTING


def _failure(said: Mapping[str, Any]) -> Json:
    return {
        "reason": _cut(said.get("failure")),
        "message": _cut(said.get("message")),
        "remedy": _cut(said.get("remedy")),
    }


def _events(found: Iterable[Json]) -> list[Json]:
    told = [
        {
            "at": str(
                one.get("lastTimestamp") or one.get("eventTime") or one["metadata"].get("creationTimestamp") or ""
            ),
            "type": "Warning" if one.get("type") == "Warning" else "Normal",
            "reason": _cut(one.get("reason")),
            "message": _cut(one.get("message")),
            "count": _number(one.get("count")) or 1,
        }
        for one in found
    ]
    return sorted(told, key=lambda one: str(one["at"]), reverse=True)[:MOST_EVENTS]


def _cut(said: Any) -> str:
    return plain(said)[:LONGEST] if isinstance(said, str) else ""


def _number(said: Any) -> int | None:
    sensible = isinstance(said, int | float) and not isinstance(said, bool) and 0 <= said < 1e9
    return math.ceil(said) if sensible else None
