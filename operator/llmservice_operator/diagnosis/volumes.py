"""Volumes that keep a pod from a node, in the scheduler's words: a claim without one, or one that few nodes mount."""

from __future__ import annotations

import re

from llmservice_operator.diagnosis.case import Case
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.waiting import last
from llmservice_runtime.contract.failure import FailureClass

_CLAIM = re.compile(
    r"persistentvolumeclaim \"|unbound immediate PersistentVolumeClaims|bound to non-existent pv|binding volumes",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"match PersistentVolume's node affinity|volume node affinity|find available persistent volumes to bind"
    r"|available volume zone|enough free storage|max volume count|no available disk|ReadWriteOncePod",
    re.IGNORECASE,
)
_CLASS = re.compile(r'storageclass\.storage\.k8s\.io "([^"]*)" not found')
_UNMADE = ("ProvisioningFailed", "FailedBinding", "VolumeMismatch")
"""Events about a claim that gets no volume."""


def unbound_claim(case: Case, said: str) -> Problem | None:
    """A claim that is missing or has no volume: no other node would help."""
    if not _CLAIM.search(said):
        return None
    names = _claims(case)
    which = f" {' and '.join(names)}" if names else ""
    why = last(case.events, *_UNMADE)
    text = f"The {case.what} waits for its PersistentVolumeClaim{which}: {said}{f' ({why})' if why else ''}."
    return Problem(FailureClass.VOLUME_FAILED, f"{text} {_way_out(case, names, said, why)}")


def volume_elsewhere(case: Case, said: str) -> Problem | None:
    """A volume that exists, or could, on other nodes than those that have room."""
    if not _PLACE.search(said):
        return None
    which = f" (claim {' and '.join(names)})" if (names := _claims(case)) else ""
    return Problem(
        FailureClass.VOLUME_FAILED,
        f"No node that takes the {case.what} can mount its volume{which}: {said}. Free the nodes that can mount it, or "
        "use storage that every node can mount (ReadWriteMany), or a cache of type EmptyDir.",
    )


def _way_out(case: Case, names: list[str], said: str, why: str) -> str:
    namespace = case.pod["metadata"].get("namespace", "")
    missing = _CLASS.search(why)
    if missing or "no storage class is set" in why:
        lacks = f"There is no StorageClass {missing[1]}." if missing else "The cluster has no default StorageClass."
        again = f"kubectl delete pvc -n {namespace} {names[0] if names else ''}".strip()
        return (
            f"{lacks} Write one of `kubectl get storageclass` into spec.cache.persistentVolumeClaim.storageClassName, "
            f"and delete the claim, which holds nothing yet and is made anew ({again}); or have the class made."
        )
    if "not found" in said:
        return f"Create the claim, or correct its name. {case.see('describe pod')}."
    more = f"See kubectl describe pvc -n {namespace} {names[0]}" if len(names) == 1 else case.see("describe pod")
    return f"Have a volume made for it, or correct its StorageClass. {more}."


def _claims(case: Case) -> list[str]:
    """Names of the claims that the pod mounts."""
    volumes = case.pod.get("spec", {}).get("volumes", ())
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]
