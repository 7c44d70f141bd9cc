"""LLMService v1alpha1. These models are the API: CRD, field reference and validation are generated from them.

Only fields that work are here; nothing is accepted and ignored.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

GROUP = "llmservice.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LLMService"
PLURAL = "llmservices"
SHORT_NAME = "llmsvc"

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=40)]


class ApiModel(BaseModel):
    """Base of every API type: camelCase on the wire, unknown fields refused, values immutable."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class ModelFormatAssertion(StrEnum):
    """Formats that `expectedFormat` can assert."""

    GGUF = "GGUF"
    SAFETENSORS = "Safetensors"
    PICKLE = "Pickle"
    MISTRAL = "Mistral"


class SecretReference(ApiModel):
    """A Secret in the service's namespace; on one machine a folder of that name or environment variables."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)] = Field(
        description="Name of the Secret. Keys: HF_TOKEN, MODELSCOPE_API_TOKEN, AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, HTTP_BEARER_TOKEN, HTTP_USERNAME, HTTP_PASSWORD, "
        "OCI_USERNAME, OCI_PASSWORD."
    )


class ModelSpec(ApiModel):
    """Which model, from where."""

    uri: Annotated[str, StringConstraints(min_length=1, max_length=2048)] = Field(
        description="Where the model is: hf://owner/name, modelscope://owner/name, s3://bucket/prefix, "
        "http(s)://host/path, oci://registry/repository:tag, file://path, pvc://claim/path."
    )
    revision: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        default=None,
        description="Branch, tag or commit; resolved once to a commit that status keeps. Omitted = the source's default.",
    )
    include: list[Annotated[str, StringConstraints(min_length=1, max_length=256)]] = Field(
        default_factory=list,
        max_length=32,
        description="Glob patterns of the files to use when the source holds several models (`*q4_k_m*.gguf`). "
        "Omitted = all; with several GGUF files the choice must be made here.",
    )
    expected_format: ModelFormatAssertion | None = Field(
        default=None, description="Refuse the model unless its format is this one."
    )
    secret_ref: SecretReference | None = Field(default=None, description="Credentials of the source.")


class EngineTypeChoice(StrEnum):
    """Engines that a spec can ask for."""

    AUTO = "Auto"
    VLLM = "VLLM"
    TRANSFORMERS = "Transformers"
    LLAMA_CPP = "LlamaCpp"


class EnvVar(ApiModel):
    """One environment variable of the engine process."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
    value: Annotated[str, StringConstraints(max_length=4096)] = ""


class EngineSpec(ApiModel):
    """How the model is run."""

    type: EngineTypeChoice = Field(
        default=EngineTypeChoice.AUTO, description="Auto chooses by format, quantization and hardware, and says why."
    )
    args: list[Annotated[str, StringConstraints(min_length=1, max_length=1024)]] = Field(
        default_factory=list, max_length=64, description="Extra engine arguments; unknown ones are refused by name."
    )
    env: list[EnvVar] = Field(default_factory=list, max_length=64, description="Environment of the engine process.")


class TaskChoice(StrEnum):
    """What the service answers."""

    AUTO = "Auto"
    CHAT = "Chat"
    COMPLETION = "Completion"


class AcceleratorSpec(ApiModel):
    """Accelerators of one replica."""

    count: Annotated[int, Field(ge=0, le=64)] | None = Field(
        default=None, description="GPUs per replica. Omitted = planned; 0 = CPU only."
    )


class EndpointSpec(ApiModel):
    """How the endpoint behaves under load and at the end."""

    max_queued_requests: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=100, description="Requests that may wait beyond the running ones; more get 429 with Retry-After."
    )
    drain_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        default=300, description="How long running streams may finish after a stop was asked for."
    )


class LLMServiceSpec(ApiModel):
    """What is wanted."""

    model: ModelSpec
    task: TaskChoice = Field(default=TaskChoice.AUTO, description="Auto = what the model can do.")
    engine: EngineSpec = Field(default_factory=EngineSpec)
    context_tokens: Annotated[int, Field(ge=16, le=100_000_000)] | None = Field(
        default=None,
        description="Longest prompt plus answer. Omitted = planned: the largest that fits, at most the model's.",
    )
    accelerator: AcceleratorSpec = Field(default_factory=AcceleratorSpec)
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="Copies that serve; set through /scale."
    )
    endpoint: EndpointSpec = Field(default_factory=EndpointSpec)


class ObjectMeta(BaseModel):
    """The part of Kubernetes' ObjectMeta that is used; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, alias_generator=to_camel)

    name: DnsLabel
    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)] = "default"
    generation: int = 1
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Condition(ApiModel):
    """metav1.Condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int


class ModelStatus(ApiModel):
    """What the model was resolved to."""

    resolved_revision: str | None = None


class PlanStatus(ApiModel):
    """The plan in force, in short."""

    engine: str | None = None
    reason: str | None = None
    summary: str | None = None


class LLMServiceStatus(ApiModel):
    """What is."""

    observed_generation: int | None = None
    replicas: int | None = None
    ready_replicas: int | None = None
    selector: str | None = None
    url: str | None = None
    model: ModelStatus | None = None
    plan: PlanStatus | None = None
    conditions: list[Condition] = Field(default_factory=list)


class LLMService(ApiModel):
    """An open model as an OpenAI endpoint."""

    api_version: Literal["llmservice.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]
    kind: Literal["LLMService"] = "LLMService"
    metadata: ObjectMeta
    spec: LLMServiceSpec
    status: LLMServiceStatus | None = None

    @property
    def full_name(self) -> str:
        """`namespace/name`: the canonical model name."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def to_manifest(self) -> dict[str, Any]:
        """The object as Kubernetes spells it, without unset fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
