"""The memory budget of one way to run a model, line by line, and what the arithmetic asks of an engine."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar, Self

from llmservice_runtime.contract.memory import GPU as GPU
from llmservice_runtime.contract.memory import HOST as HOST
from llmservice_runtime.contract.memory import Part
from llmservice_runtime.estimate.adapters import AdapterRoom
from llmservice_runtime.estimate.kv import F16, padded
from llmservice_runtime.estimate.overhead import UTILISATION
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device

SHARED = "memory that processes share"
"""The line of what an engine's processes hand each other in /dev/shm, which is the host's memory."""
RESERVE = "reserve"
"""The line of what is kept free for what nobody can predict; it is not part of what is measured."""


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """One line of the memory budget, in bytes per device; `where` is `GPU` or `Host`."""

    name: str
    bytes: int
    where: str = HOST

    @property
    def is_cache(self) -> bool:
        """Whether it is of the cache: of tokens, or of sequences."""
        return self.name.startswith(("KV cache", "states of"))

    @property
    def part(self) -> Part:
        """What is measured of it, together with others of the same part."""
        if self.name in (RESERVE, SHARED):
            return Part.RESERVE if self.name == RESERVE else Part.SHARED
        if self.is_cache or self.name.startswith("cache"):
            return Part.CACHE
        return Part.WEIGHTS if self.name.startswith(("weights", "adapters")) else Part.ENGINE


@dataclass(frozen=True, slots=True)
class Layout:
    """How GPUs share a model: `tensor` of them every layer, `pipeline` such sets the layers; `copies` of all that."""

    tensor: int = 1
    pipeline: int = 1
    copies: int = 1

    @property
    def gpus(self) -> int:
        """All of them."""
        return self.tensor * self.pipeline * self.copies


ALONE = Layout()
"""One GPU, or GPUs that have layers each."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What arguments of an engine ask of a plan; None = planned."""

    context_tokens: int | None = None
    sequences: int | None = None
    """Decoded together by one copy."""
    layout: Layout | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """Field -> the argument as it was given, for errors."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to run a model. `gpus` share it as `layout` says (of engines that give GPUs layers each it says nothing).

    `gpu_layers` counts the layers on them where the others can stay on the host; more than the model has = everything.
    `page` is how many tokens a sequence's cache grows by.
    """

    device: Device
    context_tokens: int
    sequences: int
    kv_tokens: int
    gpus: int = 0
    gpu_layers: int = 0
    page: int = 1
    layout: Layout = ALONE

    @property
    def whole(self) -> int:
        """Tokens of a pool that holds a whole context, in full pages, for every sequence."""
        return self.sequences * padded(self.context_tokens, self.page)


class EngineMemory(ABC):
    """What one engine, with the arguments it was given, takes to run a model. Pure."""

    max_sequences: ClassVar[int]
    """The most it decodes together."""
    asked: Asked = Asked()
    """What its arguments leave nothing to plan of."""
    notes: tuple[str, ...] = ()
    """What its arguments take that is not counted, as sentences."""
    lifts_context: bool = False
    """Whether its arguments let a context be longer than the model was made for."""
    utilisation: float = UTILISATION
    """Share of a GPU's memory that it takes."""
    cache_bytes: int | None = None
    """The most of a GPU that its cache takes; None = what is left."""
    page: int = 1
    """Tokens that a whole context is rounded up to."""
    room: AdapterRoom = AdapterRoom()
    """For LoRA adapters."""
    unpredicted: str = ""
    """Why its arguments leave it open how fast it can write, as a clause; empty = they don't."""
    fills_gpus: ClassVar[bool] = False
    """Whether its pool takes all that is left of the GPUs."""
    offloads: ClassVar[bool] = False
    """Whether layers that the GPUs don't hold can stay on the host."""

    def converted(self, quantization: str) -> EngineMemory:
        """The same with weights that are made that while they are loaded; empty, or an engine that converts none: as it
        is."""
        return self

    def with_room(self, room: AdapterRoom) -> Self:
        """The same with room for adapters."""
        made = copy.copy(self)
        made.room = room
        return made

    @abstractmethod
    def lines(self, facts: ModelFacts, shape: Shape) -> tuple[MemoryLine, ...]:
        """Every line of the budget; GPU lines are bytes per GPU."""

    def widths(self, facts: ModelFacts, device: Device) -> tuple[float, float]:
        """Bytes that are read for a byte as it is stored: of layers, and of the output matrix."""
        return 1.0, 1.0

    def element(self, facts: ModelFacts, device: Device) -> Fraction:
        """Bytes of an element of the cache."""
        return F16

    def layouts(self, facts: ModelFacts, gpus: int) -> tuple[Layout, ...]:
        """How so many GPUs can share the model, best first; empty = they can't. Layers each, at most one GPU per layer,
        unless the engine says otherwise."""
        return (ALONE,) if gpus <= max(1, facts.layer_count) else ()

    def unsplit(self, facts: ModelFacts, gpus: int) -> str:
        """Why so many GPUs can't share the model, as the end of a sentence."""
        return f"the model has {facts.layer_count} layers for them"

    def shares(self, facts: ModelFacts) -> bool:
        """Whether sequences can share one pool that is smaller than a whole context for each."""
        return True


def adapter_line(size: int, where: str = HOST) -> tuple[MemoryLine, ...]:
    """The line of room for adapters; none where there is no room."""
    return (MemoryLine("adapters", size, where),) if size else ()


def total(lines: Sequence[MemoryLine], where: str) -> int:
    """Sum of one place."""
    return sum(line.bytes for line in lines if line.where == where)


def kv_line(shape: Shape, size: int, where: str = HOST) -> MemoryLine:
    """The line of the KV cache."""
    return MemoryLine(f"KV cache of {shape.kv_tokens:,} tokens", size, where)


def cache_lines(shape: Shape, size: int, states: int, where: str = HOST) -> tuple[MemoryLine, ...]:
    """The lines of a cache of `size` bytes, of which `states` are kept by sequence and not by token."""
    line = kv_line(shape, size - states, where)
    return (line, MemoryLine(f"states of {shape.sequences} sequences", states, where)) if states else (line,)
