"""A service in a few fields: what a list of services shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from llmservice_api.conditions import Reason
from llmservice_gateway.console.facts import Json
from llmservice_gateway.console.hiding import public
from llmservice_gateway.routing import Backend, Unready
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.case import TAKES_PICTURES


class State(StrEnum):
    """How a service or a replica is, at a glance."""

    READY = "Ready"
    STARTING = "Starting"
    IDLE = "Idle"
    """None runs; a request wakes it."""
    WAITING = "Waiting"
    """For room on a machine, or for a node."""
    STOPPED = "Stopped"
    FAILED = "Failed"
    """Somebody has to change something."""
    DRAINING = "Draining"


_BY_REASON: dict[str, State] = {
    Reason.IDLE: State.IDLE,
    Reason.STOPPED: State.STOPPED,
    Reason.DRAINING: State.DRAINING,
    Reason.WAITING_FOR_ROOM: State.WAITING,
    Reason.GIVES_WAY: State.WAITING,
    Reason.UNSCHEDULABLE: State.WAITING,
    Reason.ADDING_NODE: State.WAITING,
}
_FAILURES = frozenset[str](FailureClass)


def state(backend: Backend) -> State:
    """By its replicas, and where none is ready by the reason for it."""
    why = backend.unready
    if backend.replicas:
        return State.READY
    if why.reason in _BY_REASON:
        return _BY_REASON[why.reason]
    return State.FAILED if why.final or not why.held or why.reason in _FAILURES else State.STARTING


def summary(backend: Backend, obj: Json | None) -> Json:
    """`obj`: the LLMService, where it is known. What changes with each request is left to the caller."""
    about, status = backend.about, (obj or {}).get("status") or {}
    ready = condition(status, "Ready") if backend.replicas else None
    why: Unready = backend.unready
    load = status.get("load") or {}
    return {
        "name": backend.full_name,
        "namespace": backend.namespace,
        "shortName": backend.name,
        "state": state(backend).value,
        "reason": str(ready["reason"] if ready else Reason.READY if backend.replicas else why.reason),
        "message": str(ready["message"]) if ready else "" if backend.replicas else why.message,
        "remedy": "" if backend.replicas else why.remedy,
        "held": bool(backend.replicas) or (why.held and not why.final),
        "etaSeconds": None,
        "percent": None,
        "phase": None,
        "loadSeconds": load["milliseconds"] / 1000 if "milliseconds" in load else None,
        "ready": len(backend.replicas),
        "task": about.task,
        "pictures": takes_pictures(status),
        "engine": about.engine,
        "uri": public(about.uri.partition("?")[0]),
        "architecture": about.architecture,
        "parameters": about.parameters,
        "quantization": about.quantization,
        "format": about.format,
        "contextTokens": backend.context_tokens,
        "adapters": [{"name": each.name, "problem": each.problem} for each in backend.adapters],
        "url": status.get("url"),
    }


def with_replicas(told: Json, replicas: Sequence[Json]) -> Json:
    """The same with how far the first replica is that will be ready."""
    coming = [one for one in replicas if one["state"] == State.STARTING]
    etas = [one["etaSeconds"] for one in coming if one["etaSeconds"] is not None]
    first = max(coming, key=lambda one: one["percent"] or 0, default=None)
    if told["state"] == State.READY or first is None:
        return told
    return {**told, "etaSeconds": min(etas, default=None), "percent": first["percent"], "phase": first["phase"]}


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """One of status.conditions."""
    return next((one for one in status.get("conditions") or () if one["type"] == kind), None)


def takes_pictures(status: Mapping[str, Any]) -> bool:
    """As the plan's notes say."""
    notes = (status.get("plan") or {}).get("notes") or ()
    return any(str(note).startswith(TAKES_PICTURES) for note in notes)
