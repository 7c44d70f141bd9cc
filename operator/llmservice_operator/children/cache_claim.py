"""The PersistentVolumeClaim of a cache that is made for the service, and goes with it."""

from __future__ import annotations

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_api.workload import AccessMode
from llmservice_operator.facts.owner import Json, Owner


def claim_name(owner: Owner, spec: LLMServiceSpec) -> str:
    """The claim that holds the cache, when there is one."""
    claim = spec.cache.persistent_volume_claim
    return claim.claim_name if claim and claim.claim_name else f"{owner.name}-models"


def cache_claim(owner: Owner, spec: LLMServiceSpec) -> Json | None:
    """None when the service asks for no claim, or names one."""
    claim = spec.cache.persistent_volume_claim
    if claim is None or claim.size is None:
        return None
    modes = claim.access_modes or [AccessMode.READ_WRITE_ONCE]
    storage = {"storageClassName": claim.storage_class_name} if claim.storage_class_name else {}
    body = {"accessModes": [mode.value for mode in modes], "resources": {"requests": {"storage": claim.size}}}
    return owner.child("v1", "PersistentVolumeClaim", claim_name(owner, spec), spec=body | storage)
