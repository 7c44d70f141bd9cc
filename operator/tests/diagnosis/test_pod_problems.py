"""Every class of failure has its reason and its remedy; a pod with which nothing is wrong has neither."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmservice_operator.diagnosis.case import Case
from llmservice_operator.diagnosis.pods import pod_problem
from llmservice_runtime.contract.failure import FailureClass, FailureRecord

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Json = dict[str, Any]


PREEMPTION = " no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful."


def unschedulable(message: str = f"0/2 nodes are available: 2 Insufficient memory.{PREEMPTION}") -> Json:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def waiting(reason: str, message: str = "said", **more: Any) -> Json:
    return container(state={"waiting": {"reason": reason, "message": message}}, **more)


def container(**status: Any) -> Json:
    return {"containerStatuses": [{"name": "runtime", "image": "r:1", "ready": False, "restartCount": 2, **status}]}


def ended(code: int, reason: str = "Error", message: str = "") -> Json:
    terminated = {"exitCode": code, "reason": reason, "message": message}
    return waiting("CrashLoopBackOff", lastState={"terminated": terminated})


def record(failure: FailureClass) -> Json:
    return ended(1, message=FailureRecord(failure, "It failed.", "Mend it.", "Loading").to_json())


def creating(seconds: int) -> Json:
    started = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    sandbox = {"type": "PodReadyToStartContainers", "status": "False"}
    return {"startTime": started, "conditions": [sandbox], **waiting("ContainerCreating")}


SCHEDULER_ERROR = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulerError",
            "message": 'running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded',
        }
    ]
}
GATED = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}
EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
FULL = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}
SILENT = {"conditions": [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]}
NO_CLAIM = '0/2 nodes are available: persistentvolumeclaim "models" not found. not found.'
CASES: list[tuple[str, Json, str, str]] = [
    ("no room", unschedulable(), "Unschedulable", "2 Insufficient memory. Free or add"),
    ("no such claim", unschedulable(NO_CLAIM), "VolumeFailed", 'persistentvolumeclaim "models" not found. Create'),
    *(
        (said[:40], unschedulable(f"0/2 nodes are available: {said}.{PREEMPTION}"), "VolumeFailed", "ReadWriteMany")
        for said in (
            "2 node(s) didn't match PersistentVolume's node affinity",
            "1 Insufficient memory, 1 node(s) had volume node affinity conflict",
            "2 node(s) didn't find available persistent volumes to bind",
            "2 node(s) had no available volume zone",
            "2 node(s) did not have enough free storage",
            "2 node(s) exceed max volume count",
            "2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by "
            "another pod",
        )
    ),
    *(
        (said[:40], unschedulable(f"0/2 nodes are available: {said}."), "VolumeFailed", "kubectl describe")
        for said in (
            "pod has unbound immediate PersistentVolumeClaims",
            'persistentvolumeclaim "models" bound to non-existent persistentvolume "pv-1"',
            "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        )
    ),
    ("scheduler", SCHEDULER_ERROR, "VolumeFailed", "binding volumes: context deadline exceeded"),
    ("queued", GATED, "Waiting", "admitted"),
    ("evicted", EVICTED, "Evicted", "A new one is made"),
    ("silent node", SILENT, "NodeNotReady", "kubectl describe node"),
    ("disk of the node", FULL, "DiskFull", "more disk"),
    ("no such image", waiting("ErrImagePull", "not found"), "ImagePullFailed", "imagePullSecrets"),
    ("no such image, later", waiting("ImagePullBackOff"), "ImagePullFailed", "r:1"),
    ("image inspection", waiting("ImageInspectError"), "ImagePullFailed", "r:1"),
    ("bad signature", waiting("SignatureValidationFailed"), "ImagePullFailed", "r:1"),
    ("hook", waiting("PostStartHookError"), "ContainerRefused", "kubectl describe"),
    ("bad image name", waiting("InvalidImageName"), "ImagePullFailed", "Check its name"),
    ("bad container", waiting("CreateContainerConfigError"), "ContainerRefused", "kubectl describe"),
    *(
        (
            said[:40],
            waiting("CreateContainerConfigError", said),
            "ContainerRefused",
            ". In spec.podTemplate, give it a user",
        )
        for said in (
            'container\'s runAsUser breaks non-root policy (pod: "x-1_apps(45e4)", container: runtime)',
            'container has runAsNonRoot and image will run as root (pod: "x-1_apps(45e4)", container: runtime)',
            "container has runAsNonRoot and image has non-numeric user (me), cannot verify user is non-root "
            '(pod: "x-1_apps(45e4)", container: runtime)',
        )
    ),
    ("no such program", ended(128, "StartError", "exec: not found"), "ContainerRefused", "exec: not found"),
    ("killed by the kernel", ended(137, "OOMKilled"), "OutOfMemory", "resources.limits.memory"),
    ("killed by a probe", ended(137), "ProbeFailed", "--previous"),
    ("ended by a probe", ended(0, "Completed"), "ProbeFailed", "--previous"),
    ("crashed", ended(139), "Crashed", "exit code 139"),
    ("volumes", creating(31), "VolumeFailed", "PersistentVolumeClaim"),
    *((failure.value, record(failure), failure.value, "Mend it.") for failure in FailureClass),
]


@pytest.mark.parametrize(("status", "reason", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_wrong_is_named_with_a_remedy(status: Json, reason: str, said: str) -> None:
    problem = pod_problem(Case({"metadata": {}, "spec": {}, "status": status}, NOW))
    assert problem is not None
    assert str(problem.reason) == reason
    assert said in problem.message
    assert problem.message.endswith(".")


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"phase": "Pending"},
        waiting("ContainerCreating"),
        creating(29),
        container(state={"running": {}}, restartCount=0),
        # It failed once, and serves now.
        container(ready=True, lastState={"terminated": {"exitCode": 1, "reason": "Error"}}),
        # An init container that ended well.
        {"initContainerStatuses": [{"name": "fetch", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]},
    ],
)
def test_a_pod_that_starts_or_serves_has_no_problem(status: Json) -> None:
    assert pod_problem(Case({"metadata": {}, "spec": {}, "status": status}, NOW)) is None


def test_a_gpu_that_no_node_has_is_told_from_one_that_is_taken() -> None:
    pod = {"metadata": {}, "spec": {}, "status": unschedulable("Insufficient nvidia.com/gpu")}
    missing = pod_problem(Case(pod, NOW, "nvidia.com/gpu", gpu_exists=False))
    taken = pod_problem(Case(pod, NOW, "nvidia.com/gpu"))
    assert missing and missing.reason == "NoSuchGPU"
    assert taken and taken.reason == "Unschedulable"


def test_who_is_killed_for_memory_is_told_the_limit() -> None:
    limited = {"name": "runtime", "resources": {"limits": {"memory": "40Mi"}}}
    pod = {"metadata": {}, "spec": {"containers": [limited]}, "status": ended(137, "OOMKilled")}
    problem = pod_problem(Case(pod, NOW))
    assert problem and "its limit of 40Mi" in problem.message


def test_the_log_to_look_at_is_named() -> None:
    pod = {"metadata": {"namespace": "apps", "name": "demo-1"}, "spec": {}, "status": ended(139)}
    problem = pod_problem(Case(pod, NOW))
    assert problem and "kubectl logs -n apps demo-1 --previous" in problem.message


def test_the_kubelets_own_words_on_a_volume_are_passed_on() -> None:
    said = {"reason": "FailedMount", "message": 'secret "hf" not found', "metadata": {}}
    problem = pod_problem(Case({"metadata": {}, "spec": {}, "status": creating(31)}, NOW, events=[said]))
    assert problem and 'secret "hf" not found' in problem.message


def test_a_replica_that_drained_when_its_node_evicted_it_is_told_by_the_event() -> None:
    message = "Pod ephemeral local storage usage exceeds the total limit of containers 16Mi."
    said = {"reason": "Evicted", "message": message, "metadata": {}}
    pod = {"metadata": {}, "spec": {"restartPolicy": "Always"}, "status": {"phase": "Succeeded"}}
    problem = pod_problem(Case(pod, NOW, events=[said]))
    assert problem and problem.reason == "DiskFull"
    assert pod_problem(Case({**pod, "spec": {"restartPolicy": "Never"}}, NOW, events=[said])) is None


SIDECARS = [
    ("containerStatuses", ended(2)["containerStatuses"][0]),
    ("initContainerStatuses", ended(2)["containerStatuses"][0]),  # a native one, or one that prepares
    ("containerStatuses", waiting("CreateContainerError")["containerStatuses"][0]),
    ("containerStatuses", ended(137)["containerStatuses"][0]),
    ("containerStatuses", ended(137, "OOMKilled")["containerStatuses"][0]),
]


@pytest.mark.parametrize(("where", "status"), SIDECARS)
def test_a_container_beside_the_engine_is_named(where: str, status: Json) -> None:
    """Without -c, kubectl shows the log of whichever container stands first."""
    serving = {"name": "runtime", "ready": True, "restartCount": 0, "state": {"running": {}}}
    found: Json = {"containerStatuses": [serving], "initContainerStatuses": []}
    found[where] = [*found[where], {**status, "name": "proxy"}]
    pod = {"metadata": {"namespace": "apps", "name": "demo-1"}, "spec": {}, "status": found}
    problem = pod_problem(Case(pod, NOW))
    assert problem and "container proxy" in problem.message
    if "kubectl logs" in problem.message:
        assert "kubectl logs -n apps demo-1 -c proxy --previous" in problem.message


def claim_event(reason: str, message: str) -> Json:
    return {"reason": reason, "message": message, "metadata": {}, "involvedObject": {"kind": "PersistentVolumeClaim"}}


@pytest.mark.parametrize(
    ("reason", "message", "said"),
    [
        ("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found', "There is no StorageClass fast."),
        (
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
            "The cluster has no default StorageClass.",
        ),
    ],
)
def test_a_storage_class_that_is_missing_is_named(reason: str, message: str, said: str) -> None:
    volume = {"name": "cache", "persistentVolumeClaim": {"claimName": "demo-models"}}
    status = unschedulable("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
    pod = {"metadata": {"namespace": "apps", "name": "p"}, "spec": {"volumes": [volume]}, "status": status}
    problem = pod_problem(Case(pod, NOW, events=[claim_event(reason, message)]))
    assert problem and problem.reason == "VolumeFailed"
    assert said in problem.message
    assert "spec.cache.persistentVolumeClaim.storageClassName" in problem.message
    assert "kubectl delete pvc -n apps demo-models" in problem.message


@pytest.mark.parametrize(
    ("reason", "class_", "said"),
    [
        ("FailedMapVolume", "VolumeFailed", "waits for its volumes: no such device"),
        ("FailedCreatePodSandBox", "ContainerRefused", "can't prepare the network of the replica: no such device"),
        ("FailedPrepareDynamicResources", "ContainerRefused", "can't prepare the claimed devices"),
    ],
)
def test_what_a_node_cannot_prepare_is_told_from_a_volume(reason: str, class_: str, said: str) -> None:
    older = {"reason": "FailedMount", "message": "timed out", "metadata": {}}
    told = {"reason": reason, "message": "no such device", "metadata": {}}
    pod = {"metadata": {}, "spec": {"nodeName": "n1"}, "status": creating(31)}
    problem = pod_problem(Case(pod, NOW, events=[older, told]))
    assert problem and problem.reason == class_
    assert said in problem.message
