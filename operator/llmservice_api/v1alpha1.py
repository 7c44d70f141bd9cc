"""LLMService v1alpha1. These models are the API: CRD, field reference and validation are generated from them.

Only fields that work are here; nothing is accepted and ignored.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from llmservice_api.adapters import MOST_ADAPTERS, AdapterSpec
from llmservice_api.live import LIVE
from llmservice_api.patterns import (
    ENV_NAME,
    GPU_MEMORY,
    IMAGE,
    LABEL,
    NAME_LIMIT,
    PATTERNS,
    RESOURCE,
    SERVICE_NAME,
    SUBDOMAIN,
    gpu_memory,
)
from llmservice_api.rules import ApiModel, ListMap, Rule, no_entries, no_items
from llmservice_api.scaling import ScalingSpec
from llmservice_api.sources import SCHEMES as SCHEMES
from llmservice_api.sources import Revision, SecretReference, Uri, uri_rules
from llmservice_api.status import LLMServiceStatus
from llmservice_api.workload import (
    CacheSpec,
    PodTemplate,
    PrepareSpec,
    ResourcesSpec,
    RolloutSpec,
)
from llmservice_runtime.contract.engines import EngineType

GROUP = "llmservice.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LLMService"
PLURAL = "llmservices"
SHORT_NAME = "llmsvc"

ServiceName = Annotated[str, StringConstraints(pattern=SERVICE_NAME, min_length=1, max_length=NAME_LIMIT)]
"""On one machine too, where no Service is made: what runs there runs in a cluster."""


class ModelFormatAssertion(StrEnum):
    """Formats that `expectedFormat` can assert."""

    GGUF = "GGUF"
    SAFETENSORS = "Safetensors"
    PICKLE = "Pickle"
    MISTRAL = "Mistral"


_PVC_URI = re.compile(r"^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/.*)?$")


class ModelSpec(ApiModel):
    """Which model, from where."""

    rules = (
        *uri_rules("a model"),
        Rule(
            ".uri",
            f"!self.uri.startsWith('pvc://') || self.uri.matches('{_PVC_URI.pattern}')",
            lambda self: not self.uri.startswith("pvc://") or _PVC_URI.search(self.uri) is not None,
            "a pvc URI is pvc://CLAIM/PATH, with the name of a PersistentVolumeClaim.",
            "Write the claim's name after pvc://.",
        ),
    )

    uri: Uri = Field(
        description="Where the model is: hf://owner/name, modelscope://owner/name, s3://bucket/prefix, "
        "http(s)://host/path, oci://registry/repository:tag, file://path, pvc://claim/path."
    )
    revision: Revision | None = Field(
        default=None,
        description="Branch, tag or commit, digest for oci; resolved once, kept in status. Omitted = the default.",
    )
    include: list[Annotated[str, StringConstraints(min_length=1, max_length=256)]] = Field(
        default_factory=no_items,
        max_length=32,
        description="Glob patterns of the files to use when the source holds several models (`*q4_k_m*.gguf`). "
        "Omitted = all; with several GGUF files the choice must be made here.",
    )
    expected_format: ModelFormatAssertion | None = Field(
        default=None, description="Refuse the model unless its format is this one."
    )
    secret_ref: SecretReference | None = Field(default=None, description="Credentials of the source.")
    trust_remote_code: bool = Field(
        default=False,
        description="Let code that the model's repository brings (auto_map) run in the replicas, with their rights. "
        "Only where the installation allows it (the chart's runtime.allow.remoteCode, llmservice up "
        "--allow-remote-code); the Job that reads headers never runs it.",
    )


class EngineTypeChoice(StrEnum):
    """What a spec can ask for: Auto, or an engine of the registry."""

    AUTO = "Auto"
    vars().update({engine.name: engine.value for engine in EngineType})


class LoadQuantization(StrEnum):
    """What weights can be made while they are loaded."""

    INT8 = "BitsAndBytesInt8"
    NF4 = "BitsAndBytesNF4"
    FP8 = "FP8"


class EnvVar(ApiModel):
    """One environment variable of the engine process."""

    name: Annotated[str, StringConstraints(pattern=ENV_NAME, min_length=1, max_length=128)] = Field(
        description="Name of the variable."
    )
    value: Annotated[str, StringConstraints(max_length=4096)] = Field(default="", description="Its value.")


class EngineSpec(ApiModel):
    """How the model is run."""

    rules = (
        Rule(
            ".image",
            "!has(self.image) || self.type != 'Auto'",
            lambda self: self.image is None or self.type is not EngineTypeChoice.AUTO,
            "an image of your own does not say which engines it carries.",
            "Name the engine in type.",
        ),
    )

    type: EngineTypeChoice = Field(
        default=EngineTypeChoice.AUTO,
        description="Auto chooses by format, quantization and hardware, and says why. Of a repository that has "
        "weights of several formats, a named engine takes those that it reads.",
    )
    args: list[Annotated[str, StringConstraints(min_length=1, max_length=1024)]] = Field(
        default_factory=no_items, max_length=64, description="Extra engine arguments; unknown ones are refused by name."
    )
    env: Annotated[list[EnvVar], ListMap("name")] = Field(
        default_factory=no_items, max_length=64, description="Environment of the engine process."
    )
    image: Annotated[str, StringConstraints(pattern=IMAGE, min_length=1, max_length=512)] | None = Field(
        default=None,
        description="A runtime image that carries the engine, instead of the installation's. It must be of the "
        "operator's release. Clusters only.",
    )
    load_quantization: LoadQuantization | None = Field(
        default=None,
        description="Make unquantized weights smaller while they are loaded: 8-bit integers, 4-bit NormalFloat (both "
        "also on a CPU) or 8-bit floats (on a GPU). The plan takes an engine that can, or says why none does. Omitted "
        "= as they are stored.",
    )
    load_seconds: Annotated[int, Field(ge=1, le=86_400)] | None = Field(
        default=None,
        description="How long a start may take until the model answers; beyond it the replica fails (LoadTimeout). "
        "Omitted = 10 minutes, and what reading the weights takes at 50 MiB a second.",
    )
    progress_seconds: Annotated[int, Field(ge=1, le=86_400)] | None = Field(
        default=None,
        description="How long requests may run without a step, or an idle engine not answer; beyond it the replica is "
        "restarted (NoProgress). Omitted = 60. Where ten times what a step takes by the engine's measured speed is "
        "longer, that counts.",
    )

    @property
    def asked(self) -> EngineType | None:
        """The engine that is asked for; None = Auto."""
        return None if self.type is EngineTypeChoice.AUTO else EngineType(self.type.value)


class TaskChoice(StrEnum):
    """What the service answers."""

    AUTO = "Auto"
    CHAT = "Chat"
    COMPLETION = "Completion"
    EMBEDDING = "Embedding"
    RERANK = "Rerank"


class AcceleratorSpec(ApiModel):
    """Accelerators of one replica."""

    rules = (
        Rule(
            ".resourceName",
            "!has(self.resourceName) || !has(self.count) || self.count > 0",
            lambda self: self.resource_name is None or self.count != 0,
            "resourceName asks for an accelerator, and count is 0.",
            "Leave one of them out.",
        ),
        Rule(
            ".memory",
            "!has(self.memory) || !has(self.count) || self.count > 0",
            lambda self: self.memory is None or self.count != 0,
            "memory tells of an accelerator, and count is 0.",
            "Leave one of them out.",
        ),
    )

    count: Annotated[int, Field(ge=0, le=64)] | None = Field(
        default=None, description="GPUs per replica. Omitted = planned; 0 = CPU only."
    )
    resource_name: Annotated[str, StringConstraints(pattern=RESOURCE, min_length=3, max_length=317)] | None = Field(
        default=None,
        description="The resource that nodes advertise them as: nvidia.com/gpu, nvidia.com/mig-1g.10gb, amd.com/gpu, "
        "gpu.intel.com/xe. Omitted = planned. Clusters only.",
    )
    memory: Annotated[str, StringConstraints(pattern=GPU_MEMORY, min_length=2, max_length=16)] | None = Field(
        default=None,
        description="What each of them has, as its driver reports it: 24Gi. It wins over what is known of their name, "
        "and makes do for GPUs that nobody knows. Omitted = by driver, label or name.",
    )

    @property
    def memory_bytes(self) -> int | None:
        """`memory` in bytes; None = not said."""
        return None if self.memory is None else gpu_memory(self.memory)


class EndpointAccess(StrEnum):
    """How requests reach replicas."""

    GATEWAY = "Gateway"
    DIRECT = "Direct"


class EndpointSpec(ApiModel):
    """How the endpoint is reached, and behaves under load and at the end."""

    access: Annotated[EndpointAccess | None, LIVE] = Field(
        default=None,
        description="Gateway: replicas take requests from the installation's gateways only, and status.url is the "
        "gateway's. Direct: pods of the service's namespace reach them by the service's own URL as well. Omitted = the "
        "installation's value. Clusters only.",
    )
    max_queued_requests: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=100, description="Requests that may wait beyond the running ones; more get 429 with Retry-After."
    )
    drain_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        default=300, description="How long running streams may finish after a stop was asked for."
    )


class LLMServiceSpec(ApiModel):
    """What is wanted."""

    rules = (
        Rule(
            ".replicas",
            "self.replicas <= 1 || !has(self.cache.persistentVolumeClaim)"
            " || !has(self.cache.persistentVolumeClaim.size)"
            " || (has(self.cache.persistentVolumeClaim.accessModes)"
            " && 'ReadWriteMany' in self.cache.persistentVolumeClaim.accessModes)",
            lambda self: (
                self.replicas <= 1
                or self.cache.persistent_volume_claim is None
                or not self.cache.persistent_volume_claim.one_node
            ),
            "the cache's claim is ReadWriteOnce, which would tie all replicas to one node.",
            "Keep one replica, set cache.persistentVolumeClaim.accessModes to [ReadWriteMany], or use type: EmptyDir.",
        ),
        Rule(
            ".scaling",
            "!has(self.scaling) || self.scaling.minReplicas > 0 || self.endpoint.maxQueuedRequests > 0",
            lambda self: self.scaling is None or self.scaling.min_replicas > 0 or self.endpoint.max_queued_requests > 0,
            "minReplicas is 0, and endpoint.maxQueuedRequests lets no request wait for a replica to start.",
            "Raise one of them.",
        ),
        Rule(
            ".scaling",
            "!has(self.scaling) || self.scaling.minReplicas > 0 || !has(self.endpoint.access)"
            " || self.endpoint.access != 'Direct' || self.scaling.mode != 'Managed'",
            lambda self: (
                self.scaling is None
                or self.scaling.min_replicas > 0
                or self.endpoint.access is not EndpointAccess.DIRECT
                or not self.scaling.managed
            ),
            "minReplicas is 0, and endpoint.access is Direct: only a gateway notices a request while no replica runs.",
            "Use access: Gateway, or raise minReplicas.",
        ),
        Rule(
            ".scaling",
            "!has(self.scaling) || self.scaling.maxReplicas <= 1 || self.scaling.mode != 'Managed'"
            " || !has(self.cache.persistentVolumeClaim) || !has(self.cache.persistentVolumeClaim.size)"
            " || (has(self.cache.persistentVolumeClaim.accessModes)"
            " && 'ReadWriteMany' in self.cache.persistentVolumeClaim.accessModes)",
            lambda self: (
                self.scaling is None
                or self.scaling.max_replicas <= 1
                or not self.scaling.managed
                or self.cache.persistent_volume_claim is None
                or not self.cache.persistent_volume_claim.one_node
            ),
            "maxReplicas is more than 1, and the cache's claim is ReadWriteOnce, which would tie them to one node.",
            "Set maxReplicas to 1, cache.persistentVolumeClaim.accessModes to [ReadWriteMany], or use type: EmptyDir.",
        ),
        Rule(
            ".adapters",
            "!has(self.adapters) || self.adapters.size() == 0 || !(self.task in ['Embedding', 'Rerank'])",
            lambda self: not self.adapters or self.task not in (TaskChoice.EMBEDDING, TaskChoice.RERANK),
            "adapters are for models that write text, and task asks for vectors or scores.",
            "Leave adapters out, or task.",
        ),
    )

    model: ModelSpec = Field(description="Which model, from where.")
    adapters: Annotated[list[AdapterSpec], ListMap("name"), LIVE] = Field(
        default_factory=no_items,
        max_length=MOST_ADAPTERS,
        description="LoRA adapters that are served beside the model, within the room that the plan keeps for them: "
        "their number and their rank. More than that, or a Secret that replicas lack, takes new replicas, and "
        "status says so before.",
    )
    task: TaskChoice = Field(default=TaskChoice.AUTO, description="Auto = what the model can do, as its files say.")
    engine: EngineSpec = Field(default_factory=EngineSpec.omitted, description="How the model is run.")
    context_tokens: Annotated[int, Field(ge=16, le=100_000_000)] | None = Field(
        default=None,
        description="Longest prompt plus answer. Omitted = planned: the largest that fits, at most the model's; on a"
        " CPU beyond 8,192 only in half of the memory that the weights leave.",
    )
    accelerator: AcceleratorSpec = Field(
        default_factory=AcceleratorSpec.omitted, description="Accelerators of one replica."
    )
    resources: ResourcesSpec = Field(
        default_factory=ResourcesSpec.omitted, description="What one replica asks of its node, beside accelerators."
    )
    prepare: PrepareSpec = Field(
        default_factory=PrepareSpec.omitted, description="What reads and downloads the model before it is served."
    )
    service_account_name: Annotated[str, StringConstraints(pattern=SUBDOMAIN, min_length=1, max_length=253)] | None = (
        Field(
            default=None,
            description="ServiceAccount of the Job that reads the model and of the replicas. Omitted = one is made. "
            "Clusters only.",
        )
    )
    cache: CacheSpec = Field(default_factory=CacheSpec.omitted, description="Where downloaded models are kept.")
    rollout: RolloutSpec = Field(default_factory=RolloutSpec.omitted, description="When replicas are replaced.")
    pod_template: PodTemplate | None = Field(
        default=None, description="A partial PodTemplateSpec for what has no field of its own."
    )
    replicas: Annotated[int, Field(ge=0, le=1000), LIVE] = Field(
        default=1, description="Copies that serve; set through /scale."
    )
    scaling: Annotated[ScalingSpec | None, LIVE] = Field(
        default=None,
        description="Let demand decide how many replicas there are. Omitted = spec.replicas does, as if Fixed.",
    )
    endpoint: EndpointSpec = Field(
        default_factory=EndpointSpec.omitted,
        description="How the endpoint is reached, and behaves under load and at the end.",
    )


class ObjectMeta(BaseModel):
    """The part of Kubernetes' ObjectMeta that is used; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, alias_generator=to_camel)

    name: ServiceName
    namespace: Annotated[str, StringConstraints(pattern=LABEL, min_length=1, max_length=63)] = "default"
    generation: int = 1
    labels: dict[str, str] = Field(default_factory=no_entries)
    annotations: dict[str, str] = Field(default_factory=no_entries)


class LLMService(ApiModel):
    """An open model as an OpenAI endpoint."""

    rules = (
        Rule(
            ".metadata.name",
            f"self.metadata.name.size() <= {NAME_LIMIT} && self.metadata.name.matches('{SERVICE_NAME}')",
            lambda self: len(self.metadata.name) <= NAME_LIMIT,
            f"the name is not a DNS label of at most {NAME_LIMIT} characters that a Service can have.",
            f"Use {PATTERNS[SERVICE_NAME]}.",
            created=True,
        ),
        Rule(
            ".spec.adapters",
            "!has(self.spec.adapters) || self.spec.adapters.all(adapter, adapter.name != self.metadata.name)",
            lambda self: all(adapter.name != self.metadata.name for adapter in self.spec.adapters),
            "an adapter has the service's own name, which means the model without adapters.",
            "Give the adapter another name.",
        ),
    )

    api_version: Literal["llmservice.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]
    kind: Literal["LLMService"] = "LLMService"
    metadata: ObjectMeta
    spec: LLMServiceSpec = Field(description="What is wanted.")
    status: LLMServiceStatus | None = Field(default=None, description="What is; written by the operator.")

    @property
    def full_name(self) -> str:
        """`namespace/name`: the canonical model name."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def to_manifest(self) -> dict[str, Any]:
        """The object as Kubernetes spells it, without unset fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
