"""Containers that others put into our pods: one that does not let ours start, and one that goes on after ours."""

from __future__ import annotations

from llmservice_api.conditions import Reason
from llmservice_operator.diagnosis.case import Case
from llmservice_operator.facts.live import seconds_since
from llmservice_operator.facts.pod_fields import FETCH
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import Json

HELD_SECONDS = 120
"""So long another container may run before ours starts: a proxy that has to learn its routes takes some seconds."""
SWITCH_OFF = (
    "keep it out by the label or annotation that switches its injection off, in spec.podTemplate.metadata (Istio: the "
    'label sidecar.istio.io/inject: "false"; Linkerd: the annotation linkerd.io/inject: disabled)'
)


def held_up(case: Case, own: str) -> Problem | None:
    """Which init container keeps the one called `own` from starting, once it has done so for long."""
    waits = container_status(case.pod, own)
    if waits is None or "waiting" not in waits.get("state", {}):
        return None
    for container in case.pod.get("spec", {}).get("initContainers", ()):
        name, native = container["name"], container.get("restartPolicy") == "Always"
        status = container_status(case.pod, name) or {}
        running = status.get("state", {}).get("running")
        if running is None or name == FETCH or (native and status.get("started")):
            continue
        if seconds_since(since := running.get("startedAt"), case.now) < HELD_SECONDS:
            return None
        has = "has not become ready" if native else "has not ended"
        return Problem(
            Reason.HELD_UP,
            f"The init container {name} of the {case.what} runs since {since} and {has}, so the container {own} can't "
            f"start. {case.see('logs')} -c {name}. Correct what puts it there, or {SWITCH_OFF}.",
        )
    return None


def goes_on(pod: Json, own: str) -> str:
    """A container that still runs beside `own`, which has ended; empty when none does."""
    others = (c for c in pod.get("status", {}).get("containerStatuses", ()) if c["name"] != own)
    return next((c["name"] for c in others if "running" in c.get("state", {})), "")


def container_status(pod: Json, name: str) -> Json | None:
    """The status of one container of a pod, which may be an init container."""
    status = pod.get("status", {})
    found = (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ()))
    return next((container for container in found if container["name"] == name), None)
