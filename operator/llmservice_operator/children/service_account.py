"""The ServiceAccount of a service that names none: it may do nothing, and its token is mounted nowhere."""

from __future__ import annotations

import dataclasses

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.facts.owner import Json, Owner


def account_name(owner: Owner, spec: LLMServiceSpec) -> str:
    """The account that replicas and the Job run as."""
    return spec.service_account_name or f"{owner.name}-llm"


def service_account(owner: Owner, spec: LLMServiceSpec) -> Json | None:
    """None when the service names one."""
    return own_account(owner) if spec.service_account_name is None else None


def own_account(owner: Owner) -> Json:
    """The one that is made. It has no annotations: clouds give an account rights by these."""
    plain = dataclasses.replace(owner, passed_annotations=())
    return plain.child("v1", "ServiceAccount", f"{owner.name}-llm", automountServiceAccountToken=False)
