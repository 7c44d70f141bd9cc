"""From an LLMService and its replicas to what requests are routed by, and what clients are told. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from llmservice_api.adapters import AdapterState
from llmservice_api.conditions import Reason
from llmservice_api.scaling import wakes
from llmservice_gateway.places import SPARE, Capacity, Speed
from llmservice_gateway.routing import About, Adapter, Backend, Replica, Unready
from llmservice_kube.kinds import Json
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.case import takes_pictures
from llmservice_runtime.wire.errors import MAX_RETRY_AFTER

RETRY_SECONDS = 10
"""After which to ask again for what starts, where nobody knows how long that takes."""
LONGEST_SENTENCE = 1000
AUTO = "Auto"
MAX_QUEUED = 100
"""`endpoint.maxQueuedRequests` where it is not said."""

PASSES = frozenset(
    {
        Reason.READY, Reason.IDLE, Reason.STARTING, Reason.RESTARTING, Reason.LOADING, Reason.DOWNLOADING,
        Reason.RESOLVING, Reason.WAITING, Reason.ROLLING_OUT, Reason.REPLACING_IN_PLACE, Reason.ADDING_NODE,
        Reason.DRAINING, Reason.UNSCHEDULABLE, Reason.EVICTED, Reason.NODE_NOT_READY, Reason.PROBE_FAILED,
        Reason.CONTESTED, Reason.INTERNAL_ERROR, FailureClass.HUB_UNREACHABLE, FailureClass.NO_PROGRESS,
    }
)  # fmt: skip
"""Requests wait while this is the reason; it may pass by itself."""
FINAL = frozenset(
    {
        Reason.INVALID, Reason.STOPPED, Reason.NO_SUCH_GPU, Reason.NAME_CONFLICT, Reason.CONTAINER_REFUSED,
        Reason.IMAGE_PULL_FAILED, FailureClass.MODEL_GATED, FailureClass.MODEL_NOT_FOUND, FailureClass.MODEL_CHANGED,
        FailureClass.MODEL_DAMAGED, FailureClass.UNSUPPORTED_FORMAT, FailureClass.DOES_NOT_FIT,
        FailureClass.ENGINE_NOT_INSTALLED, FailureClass.DRIVER_TOO_OLD, FailureClass.BAD_ARGUMENT,
    }
)  # fmt: skip
"""Someone has to change something. What is in neither is tried again by the cluster, but nobody waits for it."""


def backend(service: Json, replicas: tuple[Replica, ...] = (), gateways: int = 1) -> Backend:
    """The service as clients see it; `gateways` share the number of requests that may wait."""
    metadata, spec, status = service["metadata"], service["spec"], service.get("status") or {}
    plan: Mapping[str, Any] = status.get("plan") or {}
    waiting = int((spec.get("endpoint") or {}).get("maxQueuedRequests", MAX_QUEUED))
    sequences, tokens = int(plan.get("maxSequences", 0)), int(plan.get("kvTokens", 0))
    return Backend(
        namespace=metadata["namespace"],
        name=metadata["name"],
        replicas=replicas,
        unready=why_unready(service),
        created=_unix(metadata.get("creationTimestamp")),
        context_tokens=int(plan.get("contextTokens", 0)),
        silent_seconds=2.0 * int(plan.get("progressSeconds", 0)),
        capacity=Capacity(sequences, tokens, min(SPARE, waiting)),
        speed=_speed(status),
        max_held=math.ceil(waiting / gateways),
        adapters=_adapters(spec, status),
        about=_about(spec, status),
    )


def _about(spec: Json, status: Mapping[str, Any]) -> About:
    """What its plan and its model's files say."""
    plan, model = status.get("plan") or {}, status.get("model") or {}
    task = spec.get("task", AUTO)
    return About(
        task=plan.get("task") or ("" if task == AUTO else task),
        uri=(spec.get("model") or {}).get("uri", ""),
        revision=model.get("resolvedRevision", ""),
        engine=plan.get("engine", ""),
        format=model.get("format", ""),
        architecture=model.get("architecture", ""),
        parameters=int(model.get("parameters", 0)),
        quantization=model.get("quantization", ""),
        file_bytes=int(model.get("fileBytes", 0)),
        sees=takes_pictures(map(str, plan.get("notes") or ())),
        abilities=None if (known := model.get("abilities")) is None else frozenset(map(str, known)),
    )


def _adapters(spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Adapter, ...]:
    """Those that the spec has, each with what status says that keeps it from being served."""
    failed = {one["name"]: one for one in status.get("adapters") or () if one.get("state") == AdapterState.FAILED}
    said = {name: str(one.get("message") or one.get("reason") or "It failed.") for name, one in failed.items()}
    names = sorted(one["name"] for one in spec.get("adapters") or ())
    return tuple(Adapter(name, said.get(name, "")[:LONGEST_SENTENCE]) for name in names)


def _speed(status: Mapping[str, Any]) -> Speed:
    """As the replica measured it whose load stands in status, which is of the plan in force."""
    load = status.get("load") or {}
    return Speed(float(load.get("promptTokensPerSecond", 0)), float(load.get("togetherTokensPerSecond", 0)))


def why_unready(service: Json) -> Unready:
    """Why no replica is ready, as its conditions say, and whether requests wait for one."""
    metadata, spec, status = service["metadata"], service["spec"], service.get("status") or {}
    if "deletionTimestamp" in metadata:
        return Unready(Reason.DRAINING, "The service is being removed.", retry_after=5, held=False)
    replicas, managed = int(spec.get("replicas", 1)), wakes(spec.get("scaling"))
    reason, message = _said(status)
    if not replicas and not managed:
        remedy = f"Start it: kubectl scale llmsvc {metadata['name']} -n {metadata['namespace']} --replicas 1"
        return Unready(Reason.STOPPED, "spec.replicas is 0.", remedy, final=True)
    if reason == Reason.STOPPED:  # of before it was asked for, or wanted by a release that knows no demand
        reason, message = (Reason.STARTING, "It is being started.") if replicas else (Reason.IDLE, "It is woken.")
    if reason == Reason.READY:
        reason, message = Reason.STARTING, "Its replicas are ready, and this gateway has not heard of them yet."
    final, held = reason in FINAL, reason in PASSES
    return Unready(
        str(reason), message, retry_after=_again(status), final=final, held=held, since=_since(status, reason)
    )


def _said(status: Mapping[str, Any]) -> tuple[str, str]:
    """(reason, sentence) of the Ready condition."""
    for condition in status.get("conditions") or ():
        if condition["type"] == "Ready":
            return str(condition["reason"]), str(condition["message"])[:LONGEST_SENTENCE]
    return Reason.STARTING, "The operator has not looked at it yet."


def _since(status: Mapping[str, Any], reason: str) -> float:
    """Unix time of the condition that is called as the reason; 0 = there is none."""
    for condition in status.get("conditions") or ():
        if condition["type"] == reason:
            return float(_unix(condition.get("lastTransitionTime")))
    return 0.0


def _again(status: Mapping[str, Any]) -> int:
    """Seconds that the last load took."""
    load = status.get("load") or next(iter(status.get("earlierLoads") or ()), None)
    if not load:
        return RETRY_SECONDS
    return max(1, min(MAX_RETRY_AFTER, math.ceil(int(load["milliseconds"]) / 1000)))


def _unix(text: str | None) -> int:
    return int(datetime.fromisoformat(text).timestamp()) if text else 0
