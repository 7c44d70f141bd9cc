"""What is wrong with a pod: the first of a list of checks that finds something, from the node to the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.conditions import Reason
from llmservice_operator.core.live import condition, seconds_since
from llmservice_operator.core.problem import Problem
from llmservice_operator.core.values import Json
from llmservice_runtime.contract.failure import FailureClass, FailureRecord

VOLUME_PATIENCE = 60
"""Seconds that mounting volumes may take before it is called a problem."""
_PULL = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
_CREATE = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreStartHookError"}
_STARTING = {"ContainerCreating", "PodInitializing"}
_ENDED_BY_KUBELET = {0, 137, 143}
"""Exit codes after SIGTERM and SIGKILL, and of a supervisor that drained."""


@dataclass(frozen=True, slots=True)
class Case:
    """One pod at one moment. `gpu` is the resource it asks for, `gpu_exists` whether a known node has it."""

    pod: Json
    now: datetime
    gpu: str = ""
    gpu_exists: bool = True


Check = Callable[[Case], Problem | None]


def pod_problem(case: Case) -> Problem | None:
    """Why the pod does not serve; None while nothing is wrong with it (it may still be starting)."""
    return next((problem for check in CHECKS if (problem := check(case))), None)


def unscheduled(pod: Json) -> Json | None:
    """The condition that says why no node takes the pod; None when one did, or the scheduler did not look yet."""
    found = condition(pod, "PodScheduled")
    waits = found is not None and found["status"] == "False" and found.get("reason") == "Unschedulable"
    return found if waits else None


def _no_node(case: Case) -> Problem | None:
    found = unscheduled(case.pod)
    if found is None:
        return None
    said = found.get("message", "no reason was given").rstrip(".")
    if case.gpu and not case.gpu_exists:
        return Problem(
            Reason.NO_SUCH_GPU,
            f"No node of the cluster has {case.gpu} (scheduler: {said}). Add such nodes, name another "
            "accelerator.resourceName, or set accelerator.count to 0.",
        )
    return Problem(
        Reason.UNSCHEDULABLE,
        f"No node takes the replica: {said}. Free or add nodes, or ask for less in resources, contextTokens or "
        "accelerator.count.",
    )


def _gated(case: Case) -> Problem | None:
    found = condition(case.pod, "PodScheduled")
    if found is None or found.get("reason") != "SchedulingGated":
        return None
    return Problem(Reason.WAITING, "A queue holds the replica back (scheduling gate); it starts when it is admitted.")


def _evicted(case: Case) -> Problem | None:
    status = case.pod.get("status", {})
    if status.get("phase") != "Failed" or not status.get("reason"):
        return None
    said = status.get("message", "").strip()
    if "ephemeral" in said or "DiskPressure" in said:
        return Problem(
            FailureClass.DISK_FULL,
            f"The node's disk is full: {said} Use a cache on a PersistentVolumeClaim, or nodes with more disk.",
        )
    return Problem(Reason.EVICTED, f"The node ended the replica ({status['reason']}): {said} A new one is made.")


def _image(case: Case) -> Problem | None:
    for container in _containers(case.pod):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _PULL:
            said = waiting.get("message", waiting["reason"]).strip().rstrip(".")
            return Problem(
                Reason.IMAGE_PULL_FAILED,
                f"The image {container.get('image', '')} can't be pulled: {said}. Check its name, the registry, and "
                "the imagePullSecrets of the ServiceAccount.",
            )
    return None


def _created(case: Case) -> Problem | None:
    for container in _containers(case.pod):
        waiting = container.get("state", {}).get("waiting", {})
        ended = _last_end(container)
        if waiting.get("reason") in _CREATE:
            said = waiting.get("message", waiting["reason"]).strip().rstrip(".")
            return Problem(Reason.CONTAINER_REFUSED, f"The container can't be started: {said}. {_SEE}")
        if ended is not None and ended.get("reason") in ("StartError", "ContainerCannotRun"):
            said = str(ended.get("message", ended["reason"])).strip().rstrip(".")
            return Problem(Reason.CONTAINER_REFUSED, f"The container can't be started: {said}. {_SEE}")
    return None


def _ended(case: Case) -> Problem | None:
    """A container that failed, waits to be started again, or was and is not ready yet."""
    for container in _containers(case.pod):
        if container.get("ready"):
            continue
        ended = _last_end(container)
        if ended is not None and (problem := ending(ended, container.get("restartCount", 0))):
            return problem
    return None


def ending(ended: Json, restarts: int = 1) -> Problem | None:
    """What the end of a container means: its failure record first, then what the kubelet knows."""
    try:
        return Problem.of(FailureRecord.from_json(ended.get("message", "")))
    except ValueError:
        pass  # it left none: it was killed, or it is no runtime
    code = ended.get("exitCode", 0)
    if ended.get("reason") == "OOMKilled":
        return Problem(
            FailureClass.OUT_OF_MEMORY,
            "The container used more memory than its limit and was killed. Raise resources.limits.memory, or lower "
            "contextTokens.",
        )
    if restarts and code in _ENDED_BY_KUBELET:
        return Problem(
            Reason.PROBE_FAILED,
            f"The kubelet ended the replica (exit code {code}): it did not start in its time, or stopped answering. "
            "See its log: kubectl logs --previous.",
        )
    if code == 0:
        return None
    return Problem(
        FailureClass.CRASHED, f"The container ended with exit code {code}. See its log: kubectl logs --previous."
    )


def _volumes(case: Case) -> Problem | None:
    started = case.pod.get("status", {}).get("startTime")
    sandbox = condition(case.pod, "PodReadyToStartContainers")
    waiting = [c.get("state", {}).get("waiting", {}).get("reason") for c in _containers(case.pod)]
    creating = bool(waiting) and all(reason in _STARTING for reason in waiting)
    if sandbox is None or sandbox["status"] == "True" or not creating or _too_young(started, case.now):
        return None
    return Problem(
        Reason.VOLUME_FAILED,
        "The replica waits for its volumes or its network. A Secret or PersistentVolumeClaim that it names may be "
        f"missing, or mounted on another node. {_SEE}",
    )


CHECKS: tuple[Check, ...] = (
    _gated,  # held back on purpose: nothing else was tried
    _no_node,
    _evicted,
    _image,
    _created,
    _ended,  # what the process itself said
    _volumes,  # slowest to be sure of
)
_SEE = "See kubectl describe pod."


def _too_young(started: str | None, now: datetime) -> bool:
    return seconds_since(started, now) < VOLUME_PATIENCE


def _last_end(container: Json) -> Json | None:
    found: Json | None = container.get("state", {}).get("terminated") or container.get("lastState", {}).get(
        "terminated"
    )
    return found


def _containers(pod: Json) -> Iterator[Json]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses", ())
    yield from status.get("containerStatuses", ())
