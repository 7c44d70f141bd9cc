"""The pod template of a replica: the runtime with its settings, probes, drain and place. Frozen with the plan."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from llmservice_api.labels import REVISION, RUNTIME, SETTINGS
from llmservice_api.v1alpha1 import LLMService, LLMServiceSpec
from llmservice_operator.children.adapter_mounts import adapter_mounts, adapter_volumes, with_adapters
from llmservice_operator.children.container import container, pod
from llmservice_operator.children.model_access import (
    ModelAccess,
    model_access,
    prepare_arguments,
)
from llmservice_operator.children.pod_template import claims_devices, merged
from llmservice_operator.children.prepare_resources import prepare_resources
from llmservice_operator.children.service_account import account_name
from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.owner import Json, Owner
from llmservice_operator.facts.paths import COMPILED_PATH, SETTINGS_FOLDER, SHARED_MEMORY_PATH, TERMINATION_LOG
from llmservice_operator.facts.placing import Placed
from llmservice_operator.facts.pod_fields import CONTAINER, FETCH
from llmservice_operator.facts.vendors import usual_resource
from llmservice_planning.to_settings import runtime_settings
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.listening import EVERY
from llmservice_runtime.contract.ports import DATA_PORT, SUPERVISOR_PORT
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines import registry
from llmservice_runtime.estimate.budget import HOST, SHARED, total
from llmservice_runtime.prepare.report import Prepared

STARTUP_PERIOD = 5
PRE_STOP_SECONDS = 5
"""So long after its end was asked for a replica takes new work: until every proxy knows."""
GRACE_MARGIN_SECONDS = 30
LEAST_CPU = "500m"
SLOWEST_DOWNLOAD = 5 << 20
"""Bytes per second that a replica's own download is given at least."""


def replica_settings(
    service: LLMService, placed: Placed, prepared: Prepared, config: OperatorConfig
) -> RuntimeSettings:
    """What the replica's supervisor is told; it listens on every address of its pod."""
    settings = runtime_settings(placed.plan, service, prepared.path, prepared.facts)
    compiled = COMPILED_PATH if compiles(placed.plan.engine) else ""
    settings = dataclasses.replace(settings, host=EVERY, failure_log=TERMINATION_LOG, compiled=compiled)
    return with_adapters(settings, config)


def compiles(engine: EngineType) -> bool:
    """Whether the engine compiles while it starts, so that there is something to keep for the next start."""
    return bool(registry.definition(engine).caches)


def progress_seconds(settings: RuntimeSettings, access: ModelAccess, prepared: Prepared) -> int:
    """A rollout's deadline: beyond what a download and a start may take."""
    download = prepared.facts.file_bytes // SLOWEST_DOWNLOAD if access.own_download else 0
    return settings.load_seconds + download + 600


def replica_template(
    owner: Owner, service: LLMService, placed: Placed, prepared: Prepared, config: OperatorConfig, revision: str
) -> tuple[Json, list[str]]:
    """The Deployment's pod template, and what is worth knowing about it.

    `revision` is the name of the ControllerRevision that will keep it.
    """
    spec, access = service.spec, model_access(owner, service.spec)
    claimed = claims_devices(spec)
    where = _nodes(placed)
    if claimed:
        placed = dataclasses.replace(placed, resource="", products=())
        where.pop("affinity", None)
    settings = replica_settings(service, placed, prepared, config)
    adapters = adapter_volumes(owner, spec) if settings.adapters_file else []
    grace = PRE_STOP_SECONDS + spec.endpoint.drain_seconds + GRACE_MARGIN_SECONDS
    downloads = access.own_download
    secrets = access.secret_volumes if downloads else []
    body = {
        **pod(
            account_name(owner, spec),
            access,
            config,
            [*access.volumes, _settings_volume(), *shared(placed), *secrets, *adapters],
        ),
        "terminationGracePeriodSeconds": grace,
        "containers": [_runtime(spec, placed, access, settings, config)],
        "topologySpreadConstraints": [_spread(owner)],
        **where,
    }
    if downloads:
        body["initContainers"] = [_fetch(spec, access, placed, prepared, config)]
    metadata = _metadata(owner, revision, settings.to_json())
    template, overridden = merged({"metadata": metadata, "spec": body}, spec)
    return template, list(_notes(owner, spec, claimed, overridden))


def pod_metadata(owner: Owner, spec: LLMServiceSpec, revision: str, settings: str) -> Json:
    """Labels and annotations of a template that has its settings: what is passed on is today's."""
    template, _ = merged({"metadata": _metadata(owner, revision, settings), "spec": {}}, spec)
    found: Json = template["metadata"]
    return found


def _metadata(owner: Owner, revision: str, settings: str) -> Json:
    labels = {**owner.labels(RUNTIME), REVISION: revision}
    return {"labels": labels, "annotations": {**owner.annotations, SETTINGS: settings}}


def _notes(owner: Owner, spec: LLMServiceSpec, claimed: bool, overridden: list[str]) -> Iterator[str]:
    if spec.engine.image:
        yield (
            f"engine.image is {spec.engine.image}: nothing vouches for its engines, and an upgrade of the operator "
            "leaves it as it is. It must be of the operator's release."
        )
    if claimed:
        yield "Accelerators come from podTemplate's resource claims: whether the model fits them is not known."
    if overridden:
        yield f"podTemplate overrides {', '.join(overridden[:20])}{' and more' if overridden[20:] else ''}."
    if left := owner.left_out:
        yield (
            f"Not passed on to pods and other children, for want of room: {', '.join(left[:5])}"
            f"{' and more' if left[5:] else ''}. Labels, and annotations, get 64 names and 32 KiB."
        )


def _runtime(
    spec: LLMServiceSpec, placed: Placed, access: ModelAccess, settings: RuntimeSettings, config: OperatorConfig
) -> Json:
    return container(
        CONTAINER,
        placed.image,
        ["serve", f"--settings={SETTINGS_FOLDER}/settings.json"],
        config,
        ports=[
            {"name": "http", "containerPort": DATA_PORT, "protocol": "TCP"},
            {"name": "supervisor", "containerPort": SUPERVISOR_PORT, "protocol": "TCP"},
        ],
        resources=resources(spec, placed),
        volumeMounts=[
            {"name": "settings", "mountPath": SETTINGS_FOLDER, "readOnly": True},
            *access.mounts(write=False),
            *(access.compiled_mounts() if settings.compiled else []),
            *({"name": volume["name"], "mountPath": SHARED_MEMORY_PATH} for volume in shared(placed)),
            *(adapter_mounts(spec) if settings.adapters_file else []),
        ],
        startupProbe=_probe("/startupz", STARTUP_PERIOD, math.ceil(settings.load_seconds / STARTUP_PERIOD) + 6),
        livenessProbe=_probe("/livez", 10, 3),
        readinessProbe=_probe("/readyz", 2, 1),
        lifecycle={"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
    )


def resources(spec: LLMServiceSpec, placed: Placed) -> Json:
    """What was asked for; else the planned host memory and a little CPU. Accelerators are limits that are requested."""
    limits = spec.resources.limits.amounts()
    mib = -(-total(placed.plan.memory, HOST) >> 20)
    planned = {"cpu": LEAST_CPU, "memory": f"{mib}Mi"}
    requests = planned | limits | spec.resources.requests.amounts()
    accelerators = {placed.resource: str(placed.plan.accelerator_count)} if placed.resource else {}
    return {"requests": requests | accelerators, "limits": limits | accelerators}


def _fetch(
    spec: LLMServiceSpec, access: ModelAccess, placed: Placed, prepared: Prepared, config: OperatorConfig
) -> Json:
    """Brings the model into the pod's own cache, at the revision that was planned with."""
    arguments = prepare_arguments(spec, access, config, fetch=True, revision=prepared.revision)
    mounts = [*access.mounts(write=True), *access.secret_mounts()]
    resources = prepare_resources(spec, config)
    return container(FETCH, placed.image, arguments, config, volumeMounts=mounts, resources=resources)


def _probe(path: str, period: int, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": SUPERVISOR_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def shared(placed: Placed) -> list[Json]:
    """A volume in memory for what the engine's processes share, of the planned size: a container has 64 MiB without."""
    size = sum(line.bytes for line in placed.plan.memory if line.name == SHARED)
    room = {"medium": "Memory", "sizeLimit": f"{-(-size >> 20)}Mi"}
    return [{"name": "shared-memory", "emptyDir": room}] if size else []


def _settings_volume() -> Json:
    """The settings travel with the template: a rollout is one change, and an old replica keeps its own."""
    field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{SETTINGS}']"}
    return {"name": "settings", "downwardAPI": {"items": [{"path": "settings.json", "fieldRef": field}]}}


def _spread(owner: Owner) -> Json:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": owner.selector},
    }


def _nodes(placed: Placed) -> Json:
    """GPU nodes are often tainted with a resource's name; products are asked for where a label tells them.

    The planned one, the smallest that does, is preferred: larger ones are left to those who need them.
    """
    if not placed.resource:
        return {}
    keys = dict.fromkeys((placed.resource, usual_resource(placed.resource)))
    found: Json = {"tolerations": [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]}
    if placed.products:
        terms = {"nodeSelectorTerms": [_product(placed, list(placed.products))]}
        nodes: Json = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
        if len(placed.products) > 1:
            planned = {"weight": 10, "preference": _product(placed, [placed.products[0]])}
            nodes["preferredDuringSchedulingIgnoredDuringExecution"] = [planned]
        found["affinity"] = {"nodeAffinity": nodes}
    return found


def _product(placed: Placed, products: list[str]) -> Json:
    return {"matchExpressions": [{"key": placed.product_label, "operator": "In", "values": products}]}
