"""What is wrong with a pod: the first of a list of checks that finds something, from the node to the process."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from datetime import datetime

from llmservice_api.conditions import Reason
from llmservice_operator.children.container import RUNTIME_USER
from llmservice_operator.diagnosis.case import Case, called
from llmservice_operator.diagnosis.volumes import unbound_claim, volume_elsewhere
from llmservice_operator.facts.live import condition, seconds_since
from llmservice_operator.facts.paths import CACHE_PATH
from llmservice_operator.facts.pod_fields import CONTAINER, FETCH, INSPECT
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import Json
from llmservice_operator.facts.waiting import coming_node, last, no_node_comes
from llmservice_runtime.contract.failure import FailureClass, FailureRecord

VOLUME_PATIENCE = 30
"""Seconds that mounting volumes may take before it is called a problem."""
_PREEMPTION = re.compile(
    r"\.? (no new claims to deallocate, )?preemption: .*|\bnot found\. (?=not found\.$)", re.DOTALL
)
_PULL = {
    "ErrImagePull", "ImagePullBackOff", "ImageInspectError", "InvalidImageName", "ErrImageNeverPull",
    "RegistryUnavailable", "SignatureValidationFailed",
}  # fmt: skip
_CREATE = {
    "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError",
    "PreStartHookError", "PostStartHookError",
}  # fmt: skip
_NO_DIRECTORY = "hostPath type check failed"
_OVER_LIMIT = ("exceeds the total limit", "exceeded its local ephemeral storage limit")
"""Words of the kubelet where a pod took more of a disk than it may, and the disk has room."""
_UNMOUNTED = ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedMountOnFilesystemMismatch")
_UNPREPARED = {"FailedCreatePodSandBox": "the network", "FailedPrepareDynamicResources": "the claimed devices"}
"""Events of the kubelet before containers are made: about volumes, and about what else a node has to give."""
_OF_DISKS = {FailureClass.VOLUME_FAILED, FailureClass.DISK_FULL}
_STARTING = {"ContainerCreating", "PodInitializing"}
_ENDED_BY_KUBELET = {0, 137, 143}
"""Exit codes after SIGTERM and SIGKILL, and of a supervisor that drained."""


Check = Callable[[Case], Problem | None]


def pod_problem(case: Case) -> Problem | None:
    """Why the pod does not serve; None while nothing is wrong with it (it may still be starting)."""
    return next((problem for check in CHECKS if (problem := check(case))), None)


def unscheduled(pod: Json) -> Json | None:
    """The condition that says why no node takes the pod; None when one did, or the scheduler did not look yet."""
    found = condition(pod, "PodScheduled")
    waits = found is not None and found["status"] == "False" and found.get("reason") == "Unschedulable"
    return found if waits else None


_WHERE = re.compile(r' ?\(pod: "[^"]*", container: [^()]*\)')
"""The kubelet says which pod and container it speaks of; the sentence says it already."""
_AS_ROOT = (
    "In spec.podTemplate, give it a user other than 0 (securityContext.runAsUser), or say runAsNonRoot: false there."
)


def _no_node(case: Case) -> Problem | None:
    found = unscheduled(case.pod) or _scheduler_failed(case.pod)
    if found is None:
        return None
    said = _scheduler(found.get("message", "no reason was given"))
    if claim := unbound_claim(case, said):
        return claim
    if coming := coming_node(case.events, case.now):
        return Problem(Reason.ADDING_NODE, f"A node is being added for the {case.what}: {coming}.")
    if refused := no_node_comes(case.events):
        said += f"; node autoscaler: {refused}"
    if volume := volume_elsewhere(case, said):
        return volume
    if case.gpu and not case.gpu_exists:
        return Problem(
            Reason.NO_SUCH_GPU,
            f"No node of the cluster has {case.gpu} (scheduler: {said}). Add such nodes, name another "
            "accelerator.resourceName, or set accelerator.count to 0 and leave resourceName out.",
        )
    return Problem(
        Reason.UNSCHEDULABLE,
        f"No node takes the {case.what}: {said}. Free or add nodes, or ask for less in resources, contextTokens or "
        "accelerator.count.",
    )


def _scheduler_failed(pod: Json) -> Json | None:
    """The condition where the scheduler met an error of its own, as when a volume is not bound in its time."""
    found = condition(pod, "PodScheduled")
    return found if found is not None and found.get("reason") == "SchedulerError" else None


def _gated(case: Case) -> Problem | None:
    found = condition(case.pod, "PodScheduled")
    if found is None or found.get("reason") != "SchedulingGated":
        return None
    return Problem(Reason.WAITING, "A queue holds the replica back (scheduling gate); it starts when it is admitted.")


def ended_by_node(pod: Json) -> bool:
    """Replicas go on for ever: only a node ends one. One that drained in time looks as if it had succeeded."""
    phase: str = pod.get("status", {}).get("phase", "")
    forever: bool = pod.get("spec", {}).get("restartPolicy", "Always") == "Always"
    return phase == "Failed" or (phase == "Succeeded" and forever)


def _evicted(case: Case) -> Problem | None:
    status = case.pod.get("status", {})
    said = status.get("message", "").strip() or last(case.events, "Evicted")
    if not ended_by_node(case.pod) or not (status.get("reason") or said):
        return None
    said = f"{said.rstrip('.')}."
    if any(words in said for words in _OVER_LIMIT):
        return Problem(
            FailureClass.DISK_FULL,
            f"The {case.what} took more of the node's disk than it may: {said} Raise limits.ephemeral-storage in "
            f"{_resources(case)}, or use a cache on a PersistentVolumeClaim.",
        )
    if "ephemeral" in said or "DiskPressure" in said:
        return Problem(
            FailureClass.DISK_FULL,
            f"The node's disk is full: {said} Use a cache on a PersistentVolumeClaim, or nodes with more disk.",
        )
    return Problem(Reason.EVICTED, f"The node ended the {case.what}: {said} A new one is made.")


def _silent_node(case: Case) -> Problem | None:
    """Its containers were ready when its node was last heard, and the pod is not: the control plane said so."""
    ready, containers = condition(case.pod, "Ready"), condition(case.pod, "ContainersReady")
    if ready is None or containers is None or case.pod["spec"].get("readinessGates"):
        return None
    if ready["status"] != "False" or containers["status"] != "True":
        return None
    node = case.pod["spec"].get("nodeName", "")
    return Problem(
        Reason.NODE_NOT_READY,
        f"The node {node} does not answer, so the {case.what} on it gets no requests. Kubernetes replaces it when the "
        f"node stays away (after five minutes, unless tolerations say otherwise). See kubectl describe node {node}.",
    )


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
            return Problem(Reason.CONTAINER_REFUSED, _refused(case, container, said))
        if ended is not None and ended.get("reason") in ("StartError", "ContainerCannotRun"):
            said = str(ended.get("message", ended["reason"])).strip().rstrip(".")
            return Problem(Reason.CONTAINER_REFUSED, _refused(case, container, said))
    return None


def _refused(case: Case, container: Json, said: str) -> str:
    way = _AS_ROOT if "non-root" in said or "runAsNonRoot" in said else f"{case.see('describe pod')}."
    return f"{called(container['name'])} can't be started: {_WHERE.sub('', said)}. {way}"


def _ended(case: Case) -> Problem | None:
    """A container that failed, waits to be started again, or was and is not ready yet."""
    for container in _containers(case.pod):
        if container.get("ready"):
            continue
        ended = _last_end(container)
        if ended is not None and (problem := ending(case, container, ended)):
            return problem
    return None


def ending(case: Case, container: Json, ended: Json) -> Problem | None:
    """What the end of a container means: its failure record first, then what the kubelet knows."""
    try:
        record = FailureRecord.from_json(ended.get("message", ""))
        return _where(case, container, Problem.of(record))
    except ValueError:
        pass  # it left none: it was killed, or it is no runtime
    code, restarts, name = ended.get("exitCode", 0), container.get("restartCount", 0), container["name"]
    if ended.get("reason") == "OOMKilled":
        return Problem(FailureClass.OUT_OF_MEMORY, _out_of_memory(case, name))
    if restarts and code in _ENDED_BY_KUBELET:
        return Problem(
            Reason.PROBE_FAILED,
            f"The kubelet ended {called(name).lower()} of the {case.what} (exit code {code}, {_times(restarts)}): it "
            f"did not start in its time, or stopped answering. {case.log(name)}",
        )
    if code == 0:
        return None
    often = f", {_times(restarts)}" if restarts else ""
    return Problem(FailureClass.CRASHED, f"{called(name)} ended with exit code {code}{often}. {case.log(name)}")


def _out_of_memory(case: Case, name: str) -> str:
    used = f"used more memory than {_memory_limit(case.pod, name)} and was killed"
    if name == CONTAINER:
        return f"The container {used}. Raise spec.resources.limits.memory, or lower contextTokens."
    if name in (FETCH, INSPECT):
        return f"The container {name} {used}. Raise spec.prepare.resources.limits.memory."
    return f"The container {name} {used}. Raise its limit in spec.podTemplate, or where it is injected."


def _resources(case: Case) -> str:
    """The field that says what the containers of this kind of pod ask for."""
    names = {container["name"] for container in case.pod.get("spec", {}).get("containers", ())}
    return "spec.prepare.resources" if names & {FETCH, INSPECT} else "spec.resources"


def _where(case: Case, container: Json, problem: Problem) -> Problem:
    """With what the container does not know: its node, and the directory there that it wrote to."""
    path, node = _node_directory(case.pod), case.pod["spec"].get("nodeName", "")
    if problem.reason == FailureClass.DRIVER_TOO_OLD:
        return dataclasses.replace(problem, message=f"{problem.message} The driver is that of the node {node}.")
    if container["name"] != FETCH or not path or problem.reason not in _OF_DISKS:
        return problem
    return dataclasses.replace(problem, message=f"{problem.message} {CACHE_PATH} is {path} of the node {node}.")


def _node_directory(pod: Json) -> str:
    """The directory of the node that keeps the model; empty when there is none."""
    volumes: list[Json] = pod.get("spec", {}).get("volumes", [])
    found: str = next((v["hostPath"]["path"] for v in volumes if v["name"] == "cache" and "hostPath" in v), "")
    return found


def _user(pod: Json) -> int:
    """The user that writes into the directory of the node."""
    spec = pod.get("spec", {})
    fetch: Json = next((c for c in spec.get("initContainers", ()) if c["name"] == FETCH), {})
    said = [part.get("securityContext", {}).get("runAsUser") for part in (fetch, spec)]
    return next((user for user in said if user is not None), RUNTIME_USER)


def _volumes(case: Case) -> Problem | None:
    started = case.pod.get("status", {}).get("startTime")
    sandbox = condition(case.pod, "PodReadyToStartContainers")
    waiting = [c.get("state", {}).get("waiting", {}).get("reason") for c in _containers(case.pod)]
    creating = bool(waiting) and all(reason in _STARTING for reason in waiting)
    if sandbox is None or sandbox["status"] == "True" or not creating or _too_young(started, case.now):
        return None
    said = last(case.events, *_UNMOUNTED, *_UNPREPARED)
    if said and (
        what := next((_UNPREPARED[reason] for reason in _UNPREPARED if last(case.events, reason) == said), "")
    ):
        node = case.pod["spec"].get("nodeName", "")
        return Problem(
            Reason.CONTAINER_REFUSED,
            f"The node {node} can't prepare {what} of the {case.what}: {said}. Have the node looked after, or keep "
            f"replicas off it. {case.see('describe pod')}.",
        )
    if _NO_DIRECTORY in said and (path := _node_directory(case.pod)):
        node, make = case.pod["spec"].get("nodeName", ""), f"mkdir -p {path} && chown {_user(case.pod)} {path}"
        return Problem(
            FailureClass.VOLUME_FAILED,
            f"The node {node} has no directory {path}, where the {case.what} would keep the model. Make it on every "
            f"node that may run one, for the user of the pods ({make}).",
        )
    return Problem(
        FailureClass.VOLUME_FAILED,
        f"The {case.what} waits for its volumes{': ' + said if said else ' or its network'}. A Secret, ConfigMap or "
        f"PersistentVolumeClaim that it names may be missing, or mounted on another node. {case.see('describe pod')}.",
    )


CHECKS: tuple[Check, ...] = (
    _gated,  # held back on purpose: nothing else was tried
    _no_node,
    _evicted,
    _silent_node,
    _image,
    _created,
    _ended,  # what the process itself said
    _volumes,  # slowest to be sure of
)


def _scheduler(message: str) -> str:
    """The scheduler's sentence without what it says of preemption."""
    return _PREEMPTION.sub("", message).strip().rstrip(".")


def _memory_limit(pod: Json, name: str) -> str:
    """`its limit of 40Mi`, from the pod's own specification."""
    spec = pod.get("spec", {})
    containers: list[Json] = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    limits: dict[str, str] = next(
        (c.get("resources", {}).get("limits", {}) for c in containers if c["name"] == name), {}
    )
    limit = limits.get("memory", "")
    return f"its limit of {limit}" if limit else "it may use"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


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
