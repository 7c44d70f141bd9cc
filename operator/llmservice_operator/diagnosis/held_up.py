"""Containers that others put into our pods: they don't let ours start, keep it from requests, or go on after it."""

from __future__ import annotations

from llmservice_api.conditions import Reason
from llmservice_operator.diagnosis.case import Case
from llmservice_operator.facts.live import condition, seconds_since
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


def kept_from_requests(case: Case, own: str) -> Problem | None:
    """Which container is not ready while the one called `own` is, once that has lasted for long."""
    status = case.pod.get("status", {})
    if not (container_status(case.pod, own) or {}).get("ready"):
        return None
    native = {c["name"] for c in case.pod.get("spec", {}).get("initContainers", ()) if c.get("restartPolicy")}
    sidecars = (c for c in status.get("initContainerStatuses", ()) if c["name"] in native)
    since = (condition(case.pod, "ContainersReady") or {}).get("lastTransitionTime") or ""
    for container in (*status.get("containerStatuses", ()), *sidecars):
        running = container.get("state", {}).get("running")
        if container.get("ready") or running is None:
            continue
        known = max(since, running.get("startedAt") or "")
        if seconds_since(known, case.now) >= HELD_SECONDS:
            name = container["name"]
            return Problem(
                Reason.HELD_UP,
                f"The container {name} of the {case.what} is not ready since {known}, so no requests come to it, "
                f"although the container {own} is ready. {case.see('logs')} -c {name}, and its readinessProbe. Correct "
                f"what puts it there, or {SWITCH_OFF}.",
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
