"""LoRA adapters of a service: what is wanted of them, and what became of each."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from llmservice_api.patterns import LABEL
from llmservice_api.rules import ApiModel, Rule
from llmservice_api.sources import SCHEMES, Revision, SecretReference, Uri, uri_rules

MOST_ADAPTERS = 64
ADAPTER_NAME_LIMIT = 63
LATEST = "latest"
ADAPTER_SCHEMES = tuple(scheme for scheme in SCHEMES if scheme != "pvc")
"""Replicas that run fetch them, and no volume can be given to a running pod."""

AdapterName = Annotated[str, StringConstraints(pattern=LABEL, min_length=1, max_length=ADAPTER_NAME_LIMIT)]


class AdapterState(StrEnum):
    """What is so of an adapter in all replicas together."""

    PENDING = "Pending"
    """It is being read, or no replica has begun with it."""
    LOADING = "Loading"
    """Replicas fetch or load it."""
    LOADED = "Loaded"
    """Every ready replica answers for it."""
    FAILED = "Failed"
    """No replica answers for it, and none will as things are."""


class AdapterSpec(ApiModel):
    """A LoRA adapter that is served beside the model, as `SERVICE:NAME`."""

    rules = (
        *uri_rules("an adapter", ADAPTER_SCHEMES),
        Rule(
            ".name",
            f"self.name != '{LATEST}'",
            lambda self: self.name != LATEST,
            f"no adapter can be called `{LATEST}`: SERVICE:{LATEST} is the service itself, to Ollama's clients.",
            "Give it another name.",
            created=True,
        ),
    )

    name: AdapterName = Field(description="What clients call it: `model` is NAMESPACE/SERVICE:NAME, or SERVICE:NAME.")
    uri: Uri = Field(
        description="Where it is: hf://owner/name, modelscope://owner/name, s3://bucket/prefix, http(s)://host/path, "
        "oci://registry/repository:tag, file://path. A folder as PEFT writes it, or a GGUF for a model that is one."
    )
    revision: Revision | None = Field(
        default=None,
        description="Branch, tag or commit, digest for oci; resolved once, kept in status. Omitted = the default.",
    )
    secret_ref: SecretReference | None = Field(
        default=None,
        description="Credentials of the source. One that the replicas don't have yet replaces them.",
    )


class AdapterStatus(ApiModel):
    """What became of an adapter."""

    name: AdapterName = Field(description="As in spec.adapters.")
    state: AdapterState = Field(description="Pending, Loading, Loaded, or Failed.")
    resolved_revision: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        default=None, description="The commit, digest or ETag that is served."
    )
    loaded_replicas: Annotated[int, Field(ge=0)] = Field(default=0, description="Ready replicas that answer for it.")
    reason: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="One CamelCase word; absent while nothing is wrong."
    )
    message: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="A sentence with its remedy."
    )
