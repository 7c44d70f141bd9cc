"""The Job that fills a shared cache once the plan is known, before a GPU is taken, where the replicas may run."""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_api.live import in_pods
from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.model_access import model_access, prepare_arguments
from llmservice_operator.children.prepare_job import job, job_parts, step
from llmservice_operator.children.revision_name import former_name, is_of
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.nodes import PRODUCT_LABELS
from llmservice_operator.facts.owner import Json, Owner, digest
from llmservice_operator.facts.pod_fields import CONTAINER, FETCH

MOST_SERVICES = 500
"""Names of them that a Job is told: of more, none."""
PLACE = ("nodeSelector", "tolerations", "schedulerName")
"""Fields by which a replica finds its node. A volume that is made where this Job runs must be of use to replicas."""


def fetch_name(owner: Owner, spec: LLMServiceSpec, frozen: Frozen) -> str:
    """Another revision of the model, other weights of it, another claim or place is another Job; a plan of an earlier
    release keeps its Job."""
    former = is_of(former_name(owner, spec), frozen.name)
    cache = spec.cache.model_dump(mode="json", exclude_defaults=True) if former else in_pods(spec.cache)
    parts = [job_parts(owner, spec), cache, frozen.resolved_revision, place(frozen)]
    parts += [frozen.which] if frozen.which else []
    return f"{owner.name}-fetch-{digest(parts)}"


def fetch_job(
    owner: Owner,
    spec: LLMServiceSpec,
    frozen: Frozen,
    config: OperatorConfig,
    account: str,
    bound: bool,
    running: Frozen | None = None,
    services: Sequence[str] = (),
) -> Json:
    """Brings the planned revision into the claim; what is there already is only checked.

    `bound`: the claim that was made has its volume. `running`: the plan that replicas have, whose model is spared.
    `services`: all in the namespace, which alone share its claims; what others had there is nobody's.
    """
    access = model_access(owner, spec)
    arguments = prepare_arguments(spec, access, config, fetch=True, revision=frozen.resolved_revision)
    arguments += [f"--service={owner.namespace}/{owner.name}"]
    arguments += [f"--keep={running.resolved_revision}"] if running and running.resolved_revision else []
    arguments += [f"--services={','.join(sorted(services))}"] if 0 < len(services) <= MOST_SERVICES else []
    name, only = fetch_name(owner, spec, frozen), step(FETCH, arguments, access, spec, config)
    if not bound:
        limits = only["resources"].get("limits", {}) | _anchor(spec, frozen)
        only["resources"] |= {"limits": limits} if limits else {}
    return job(owner, spec, config, account, name, only, access, **place(frozen))


def _anchor(spec: LLMServiceSpec, frozen: Frozen) -> Json:
    """The replica's accelerators, where no label tells which nodes have them and the volume will tie it to one.

    They are taken for the first download alone: afterwards the volume says where.
    """
    claim = spec.cache.persistent_volume_claim
    labelled = any(label in str(place(frozen).get("affinity")) for label in PRODUCT_LABELS)
    if not frozen.resource or labelled or claim is None or not claim.one_node:
        return {}
    limits = next(c for c in frozen.template["spec"]["containers"] if c["name"] == CONTAINER)["resources"]["limits"]
    return {frozen.resource: limits[frozen.resource]}


def place(frozen: Frozen) -> Json:
    """Which nodes the replicas of a plan may run on, apart from how they stand to other pods."""
    pod = frozen.template["spec"]
    found = {name: pod[name] for name in PLACE if name in pod}
    affinity = pod.get("affinity")
    nodes = affinity.get("nodeAffinity") if isinstance(affinity, dict) else None
    return found | ({"affinity": {"nodeAffinity": nodes}} if nodes else {})
