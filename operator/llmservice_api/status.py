"""What is: the status of an LLMService. Written by the operator, and by `llmservice up` in the same words."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from llmservice_api.adapters import MOST_ADAPTERS, AdapterStatus
from llmservice_api.rules import ApiModel, ListMap, no_items
from llmservice_api.scaling import ScalingStatus


class Condition(ApiModel):
    """One condition, as metav1.Condition has it."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)] = Field(
        description="Ready: a request made now is served. Available: at least one endpoint is ready. Progressing, "
        "SpecValid, ModelResolved, Planned, Cached and Scheduled say how far the service is; NameConflict names "
        "foreign objects in its way. MetricsAvailable and ScalingActive say whether demand is known, and decides; "
        "AdaptersReady whether every one of spec.adapters is served."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(description="One CamelCase word.")
    message: Annotated[str, StringConstraints(max_length=32768)] = Field(description="A sentence with its remedy.")
    last_transition_time: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="When status last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: Annotated[int, Field(ge=0)] = Field(description="The generation that was looked at.")


_Count = Annotated[int, Field(ge=0)]
_Word = Annotated[str, StringConstraints(max_length=256)]


class ModelStatus(ApiModel):
    """What the model was resolved to."""

    resolved_revision: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        default=None, description="The commit, digest or ETag that is served, or brought to be."
    )
    format: _Word | None = Field(default=None, description="GGUF or Safetensors.")
    architecture: _Word | None = Field(default=None, description="What the model's own files call it.")
    parameters: _Count | None = Field(default=None, description="How many weights it has.")
    quantization: _Word | None = Field(
        default=None, description="How weights are quantized (Q4_K_M, FP8), or their type."
    )
    file_bytes: _Count | None = Field(default=None, description="What its files have together.")
    abilities: Annotated[list[_Word], Field(max_length=8)] | None = Field(
        default=None,
        description="What its chat template knows of: Thinking, Tools. Omitted = none was read, which says nothing.",
    )


class RejectedEngineStatus(ApiModel):
    """An engine that the plan did not choose."""

    engine: Annotated[str, StringConstraints(max_length=64)] = Field(description="Which one.")
    reason: Annotated[str, StringConstraints(max_length=1024)] = Field(description="Why not.")


class PlannedMemory(ApiModel):
    """A line of the plan's memory."""

    name: Annotated[str, StringConstraints(max_length=128)] = Field(description="What it is for.")
    where: Annotated[str, StringConstraints(max_length=8)] = Field(description="Host, or GPU: all of them together.")
    planned: Annotated[str, StringConstraints(max_length=16)] = Field(description="How much of it.")


_Speed = Annotated[int, Field(ge=1, le=2**31)]


class PredictedSpeed(ApiModel):
    """How fast memory lets a replica write, in tokens per second at most: no engine is as fast as that."""

    tokens_per_second: _Speed | None = Field(default=None, description="Of one answer, as it begins.")
    full_tokens_per_second: _Speed | None = Field(
        default=None, description="Of one answer, at the end of a full context."
    )
    together_tokens_per_second: _Speed | None = Field(
        default=None,
        description="Of all answers that a replica computes at a time, with 2,048 tokens each; of GPUs alone.",
    )
    unknown: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="Why none of it is known."
    )


class PlanStatus(ApiModel):
    """The plan in force, in short."""

    engine: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="The engine that runs the model."
    )
    reason: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="Why this engine."
    )
    summary: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="The whole plan in a sentence."
    )
    image: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="The runtime image of the replicas."
    )
    task: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="What the model answers: Chat, Completion, Embedding or Rerank."
    )
    context_tokens: _Count | None = Field(default=None, description="Longest prompt plus answer.")
    max_sequences: _Count | None = Field(default=None, description="Answers that one replica computes together.")
    kv_tokens: _Count | None = Field(default=None, description="Tokens that its KV cache holds for all of them.")
    progress_seconds: _Count | None = Field(
        default=None, description="How long it may compute without a step before it counts as stuck."
    )
    notes: list[Annotated[str, StringConstraints(max_length=4096)]] = Field(
        default_factory=no_items,
        max_length=32,
        description="What is worth knowing: limits of the plan, what podTemplate overrides, a newer image.",
    )
    rejected: list[RejectedEngineStatus] = Field(
        default_factory=no_items, max_length=8, description="Engines that it is not, and why."
    )
    memory: list[PlannedMemory] = Field(
        default_factory=no_items, max_length=16, description="What one replica takes, line by line."
    )
    speed: PredictedSpeed | None = Field(
        default=None, description="What was predicted of its speed; absent for vectors and scores."
    )


_Milliseconds = Annotated[int, Field(ge=0, le=2**53)]
_Mebibytes = Annotated[str, StringConstraints(max_length=16)]


class LoadPhase(ApiModel):
    """A phase of a load."""

    name: Annotated[str, StringConstraints(max_length=32)] = Field(description="Starting, Loading, Warming, SelfTest.")
    milliseconds: _Milliseconds = Field(description="What it took.")


class LoadMemory(ApiModel):
    """A line of the plan's memory beside what there is of it; what was planned in several lines may be measured as
    one."""

    name: Annotated[str, StringConstraints(max_length=128)] = Field(description="What it is for.")
    where: Annotated[str, StringConstraints(max_length=8)] = Field(description="Host, or GPU: all of them together.")
    planned: _Mebibytes = Field(description="What was planned.")
    measured: _Mebibytes | None = Field(
        default=None, description="What it takes; absent where nobody can tell, and of what is kept free."
    )


class LoadStatus(ApiModel):
    """The last load of the plan in force that is known, held against the plan."""

    revision: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="The ControllerRevision of the plan that was loaded."
    )
    pod: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="The replica that loaded it."
    )
    milliseconds: _Milliseconds = Field(description="From the engine's start until it was ready.")
    phases: list[LoadPhase] = Field(default_factory=no_items, max_length=8, description="What took how long.")
    planned_memory: _Mebibytes | None = Field(default=None, description="Host memory that was planned.")
    measured_memory: _Mebibytes | None = Field(
        default=None, description="Host memory that it takes with a full cache, measured when it was loaded."
    )
    planned_gpu_memory: _Mebibytes | None = Field(
        default=None, alias="plannedGPUMemory", description="Memory of all GPUs that was planned."
    )
    measured_gpu_memory: _Mebibytes | None = Field(
        default=None, alias="measuredGPUMemory", description="Memory of all GPUs that it took, where that is known."
    )
    memory: list[LoadMemory] = Field(
        default_factory=no_items, max_length=16, description="The same memory line by line, as the plan has it."
    )
    tokens_per_second: _Speed | None = Field(default=None, description="What one stream got in the self-test.")
    prompt_tokens_per_second: _Speed | None = Field(
        default=None,
        description="What one prompt got in it, when nothing else was computed. How long an answer may take to begin, "
        "and how many prompts a replica is wanted to have, follow from it.",
    )
    together_tokens_per_second: _Speed | None = Field(
        default=None, description="What all answers that a replica computes at a time got in it, together."
    )
    findings: list[Annotated[str, StringConstraints(max_length=1024)]] = Field(
        default_factory=no_items,
        max_length=8,
        description="How the load differs from what was planned with: other files, more memory.",
    )


class EarlierLoad(ApiModel):
    """What loading a plan took that was in force before."""

    revision: Annotated[str, StringConstraints(max_length=253)] = Field(description="Its ControllerRevision.")
    milliseconds: _Milliseconds = Field(description="From the engine's start until it was ready.")


class LLMServiceStatus(ApiModel):
    """What is."""

    observed_generation: _Count | None = Field(default=None, description="The generation that was acted upon.")
    replicas: _Count | None = Field(default=None, description="Replicas that exist.")
    ready_replicas: _Count | None = Field(default=None, description="Replicas that are ready.")
    ready: Annotated[str, StringConstraints(max_length=16)] | None = Field(
        default=None, description="Replicas that are ready of those that are wanted, for people: 1/2."
    )
    selector: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="Label selector of the replicas, for /scale."
    )
    url: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        default=None, description="OpenAI base URL of the service; absent where nothing of the service answers at it."
    )
    model: ModelStatus | None = Field(default=None, description="What the model was resolved to.")
    current_revision: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="The ControllerRevision that keeps the plan in force."
    )
    plan: PlanStatus | None = Field(default=None, description="The plan in force, in short.")
    load: LoadStatus | None = Field(default=None, description="What loading it took, beside what was planned.")
    earlier_loads: list[EarlierLoad] = Field(
        default_factory=no_items,
        max_length=8,
        description="What loading earlier plans took, the last one first: who returns to one knows how long it takes.",
    )
    adapters: Annotated[list[AdapterStatus], ListMap("name")] = Field(
        default_factory=no_items, max_length=MOST_ADAPTERS, description="What became of each of spec.adapters."
    )
    scaling: ScalingStatus | None = Field(
        default=None, description="What demand decided last; only where spec.scaling has it decide, or tell."
    )
    installation: Annotated[str, StringConstraints(max_length=63)] | None = Field(
        default=None,
        description="The namespace of the operator that looks after the service; one elsewhere leaves it alone.",
    )
    conditions: Annotated[list[Condition], ListMap("type")] = Field(
        default_factory=no_items, max_length=32, description="What holds and what does not, with reasons."
    )
