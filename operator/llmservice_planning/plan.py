"""A plan: what will run, where, with how much memory, and why. Data; stored, shown and executed as it is."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as defaulted

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.choice import RejectedEngine as RejectedEngine
from llmservice_runtime.estimate.adapters import AdapterRoom as AdapterRoom
from llmservice_runtime.estimate.budget import MemoryLine as MemoryLine
from llmservice_runtime.estimate.fit import Fit as Fit
from llmservice_runtime.estimate.speed import Speed as Speed


@dataclass(frozen=True, slots=True)
class Plan:
    """What will run. Lengths in tokens, memory in bytes."""

    engine: EngineType
    reason: str
    rejected: tuple[RejectedEngine, ...]
    fit: Fit
    accelerator: str
    """GPU product, or `CPU`."""
    accelerator_count: int
    tensor_parallel_size: int
    """GPUs that share every layer."""
    pipeline_parallel_size: int
    """Sets of those that have a part of the layers each."""
    gpu_layers: int
    """Layers on the GPUs where the others can stay on the host; -1 = all, 0 = none, or not by layers."""
    context_tokens: int
    max_sequences: int
    kv_tokens: int
    """KV pool, in tokens, shared by all sequences."""
    memory: tuple[MemoryLine, ...]
    memory_available: int
    """Bytes that may be used, per device (Host when accelerator is CPU)."""
    largest_context_tokens: int
    """The largest context that would fit, for the explanation."""
    revision: str
    model: str
    """One line: architecture, size, quantization."""
    task: str
    args: tuple[str, ...]
    notes: tuple[str, ...] = defaulted(default=())
    adapters: AdapterRoom = defaulted(default=AdapterRoom())
    """Room for LoRA adapters: what stays within it is loaded while replicas serve."""
    speed: Speed = defaulted(default=Speed())
    """How fast memory lets it write, at most."""
    missing: str = ""
    """Empty when the engine is installed, else what to do: such a plan can be shown but not started."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing can run: `reason` with its numbers (the shortfall in GiB), and numbered ways out.

    `field` is the one to blame, as the API spells it (`spec.engine.type`); empty = none alone.
    """

    failure: FailureClass
    reason: str
    ways_out: tuple[str, ...]
    rejected: tuple[RejectedEngine, ...] = ()
    fit: Fit = Fit.DOES_NOT_FIT
    field: str = ""
