"""Fit a model to a machine: how many GPUs, which tensor parallel size, how many layers, how long a context.

Everything is found by asking the budget: what fits is monotone in the context, so the largest is found by bisection.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from llmservice_runtime.estimate.budget import ALONE, GPU, HOST, EngineMemory, Layout, MemoryLine, Shape, total
from llmservice_runtime.estimate.overhead import GIB, host_budget
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device, Gpu, Machine

STEP = 256
"""Contexts are planned in steps of this many tokens."""

USEFUL_CONTEXT = 8192
"""What a planned context should reach before more GPUs are taken or layers are left on the host."""

UNKNOWN_CONTEXT = 2048
"""Planned when the headers do not say what the model was trained for (vLLM assumes it too), or what its cache takes."""

USUAL_SEQUENCE = 2048
"""Tokens that a sequence usually needs; a shared pool is planned for that many each."""


class Fit(StrEnum):
    """Whether the model fits an accelerator (or the machine)."""

    FITS = "Fits"
    DOES_NOT_FIT = "DoesNotFit"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Target:
    """What is placed where: `count` and `context` are what the user asked for, None = planned."""

    facts: ModelFacts
    memory: EngineMemory
    device: Device
    machine: Machine
    gpu: Gpu | None = None
    count: int | None = None
    context: int | None = None

    @property
    def longest(self) -> int:
        """The longest context that may be planned; a modest one where nobody knows what a token takes."""
        known = self.facts.context_tokens or UNKNOWN_CONTEXT
        return self.context or (known if self.facts.kv_known else min(known, UNKNOWN_CONTEXT))

    @property
    def wanted(self) -> int:
        """The context that must fit."""
        return self.context or min(self.longest, USEFUL_CONTEXT)

    def available(self, where: str) -> int:
        """Bytes that may be used there, per device."""
        if where == GPU:
            return int((self.gpu.memory_bytes if self.gpu else 0) * self.memory.utilisation)
        return host_budget(self.machine.memory_available)


@dataclass(frozen=True, slots=True)
class Placement:
    """How it runs. `largest_context` is the most that would fit; `fit` is Unknown when the machine is not known."""

    shape: Shape
    lines: tuple[MemoryLine, ...]
    largest_context: int
    fit: Fit = Fit.FITS


@dataclass(frozen=True, slots=True)
class Shortfall:
    """It does not fit: the best shape tried, what it lacks in bytes and where, the largest context it could have."""

    shape: Shape
    lines: tuple[MemoryLine, ...]
    missing: int
    where: str
    largest_context: int


def place(target: Target) -> Placement | Shortfall:
    """The first way that fits, from the cheapest on: fewest GPUs first, partial offload last."""
    best: Shortfall | None = None
    for gpus, gpu_layers, layout in _ways(target):
        result = arrange(target, gpus, gpu_layers, layout)
        if isinstance(result, Placement):
            return result
        if best is None or (result.largest_context, -result.missing) > (best.largest_context, -best.missing):
            best = result
    assert best is not None, "there is always at least one way to try"
    if not target.machine.exact:
        return Placement(best.shape, best.lines, best.largest_context, Fit.UNKNOWN)
    return best


def _ways(target: Target) -> Iterator[tuple[int, int, Layout]]:
    """(GPUs, layers on them where layers can stay on the host, how they share) to try, cheapest first."""
    if target.device is Device.CPU:
        yield 0, 0, ALONE
        return
    layouts = gpu_layouts(target)
    everything = target.facts.layer_count + 1
    for count, layout in layouts:
        yield count, everything if target.memory.offloads else 0, layout
    if target.memory.offloads:
        count, layout = layouts[-1]
        layers = _most(
            0,
            everything,
            lambda k: _over(target, _shape(target, count, k, target.wanted, 1, layout), GPU) <= 0 or k == 0,
        )
        yield count, layers, layout


def gpu_layouts(target: Target) -> list[tuple[int, Layout]]:
    """Numbers of GPUs to try (the one asked for, or all that can share the model) and how they would share it.

    A pipeline answers later than GPUs which share every layer, so it comes after all of those.
    """
    asked = target.memory.asked.layout
    most = max(1, target.machine.gpu_count, asked.gpus if asked else 1)
    counts = [target.count] if target.count else range(1, most + 1)
    ways = [(count, layout) for count in counts for layout in target.memory.layouts(target.facts, count)]
    return sorted(ways, key=lambda way: (way[1].pipeline > 1, way[0])) or [(counts[0], Layout(tensor=counts[0]))]


def arrange(target: Target, gpus: int, gpu_layers: int, layout: Layout = ALONE) -> Placement | Shortfall:
    """The most sequences that leave the wanted context room, then the longest context, then the pool."""
    asked = target.memory.asked.sequences
    sequences = asked or target.memory.max_sequences

    def crowded() -> bool:
        return not _fits(target, _shape(target, gpus, gpu_layers, target.wanted, sequences, layout))

    if not asked and not _fits(target, _shape(target, gpus, gpu_layers, target.wanted, 1, layout)):
        sequences = 1  # ways out are tried by the dozen, and most fail: known at once
    while not asked and sequences > 1 and crowded():
        sequences //= 2
    largest = largest_context(target, gpus, gpu_layers, sequences, layout)
    if largest < target.wanted:
        shape = _shape(target, gpus, gpu_layers, target.wanted, asked or 1, layout)
        where = max((GPU, HOST), key=lambda place: _over(target, shape, place))
        return Shortfall(shape, target.memory.lines(target.facts, shape), _over(target, shape, where), where, largest)
    context = target.context or _planned_context(
        target, _shape(target, gpus, gpu_layers, 0, sequences, layout), largest
    )
    base = _shape(target, gpus, gpu_layers, context, sequences, layout)
    shape = dataclasses.replace(base, kv_tokens=_pool(target, base))
    return Placement(shape, target.memory.lines(target.facts, shape), largest)


def _planned_context(target: Target, base: Shape, largest: int) -> int:
    """The longest that fits, at most the model's. On a CPU a useful context first, and more only in half of the memory
    that the weights leave: other services want to live there too."""
    longest = min(target.longest, largest)
    if target.device is not Device.CPU or longest <= target.wanted:
        return longest

    def modest(tokens: int) -> bool:
        return _modest(target, _shape(target, base.gpus, base.gpu_layers, tokens, base.sequences, base.layout))

    if modest(longest):
        return longest
    return max(target.wanted, _most(0, longest // STEP, lambda steps: modest(steps * STEP)) * STEP)


def _pool(target: Target, base: Shape) -> int:
    """Tokens of the pool, at least one context.

    An engine that fills its GPUs gets all that is left there. Elsewhere memory is not ours alone: a whole context for
    every sequence (separate streams can be decoded faster than a shared pool) if that is modest, and not more than the
    weights or a GiB; else what sequences usually need. Vectors and scores need one context alone.
    """
    if target.facts.pools:
        return base.kv_tokens
    full = dataclasses.replace(base, kv_tokens=base.whole)
    if base.kv_tokens >= base.whole:
        return base.whole

    def fits(tokens: int) -> bool:
        return _fits(target, dataclasses.replace(base, kv_tokens=tokens))

    if target.memory.fills_gpus and target.device is not Device.CPU:
        return _most(base.kv_tokens, base.whole, fits)
    cache = sum(line.bytes for line in target.memory.lines(target.facts, full) if line.is_cache)
    if _fits(target, full) and _modest(target, full) and cache <= max(GIB, target.facts.weight_bytes):
        return base.whole
    usual = base.sequences * min(base.context_tokens, USUAL_SEQUENCE)
    return _most(base.kv_tokens, max(base.kv_tokens, usual), fits)


def _modest(target: Target, shape: Shape) -> bool:
    """Whether the cache takes at most half of what everything else leaves."""
    lines = target.memory.lines(target.facts, shape)
    caches = {where: sum(n.bytes for n in lines if n.where == where and n.is_cache) for where in (GPU, HOST)}
    return all(total(lines, where) + caches[where] <= target.available(where) for where in (GPU, HOST))


def largest_context(target: Target, gpus: int, gpu_layers: int, sequences: int = 1, layout: Layout = ALONE) -> int:
    """The longest context that fits, at most the model's (or the one asked for); 0 = not even the weights."""
    ceiling = max(target.longest, target.facts.context_tokens)

    def fits(tokens: int) -> bool:
        return _fits(target, _shape(target, gpus, gpu_layers, tokens, sequences, layout))

    if fits(ceiling):
        return ceiling
    found = _most(0, ceiling // STEP, lambda n: fits(n * STEP)) * STEP if fits(STEP) else 0
    return max(found, target.wanted) if fits(target.wanted) else found


def _shape(target: Target, gpus: int, gpu_layers: int, context: int, sequences: int, layout: Layout) -> Shape:
    page = target.memory.page
    shape = Shape(target.device, context, sequences, context, gpus, gpu_layers, page, layout)
    if target.memory.shares(target.facts):
        return shape
    return dataclasses.replace(shape, kv_tokens=shape.whole)


def _fits(target: Target, shape: Shape) -> bool:
    lines = target.memory.lines(target.facts, shape)
    return all(total(lines, where) <= target.available(where) for where in (GPU, HOST)) and _beyond(target, lines) <= 0


def _over(target: Target, shape: Shape, where: str) -> int:
    lines = target.memory.lines(target.facts, shape)
    over = total(lines, where) - target.available(where)
    return max(over, _beyond(target, lines)) if where == GPU else over


def _beyond(target: Target, lines: Sequence[MemoryLine]) -> int:
    """Bytes of the cache beyond what the engine was told to give it on each GPU."""
    limit = target.memory.cache_bytes
    return sum(line.bytes for line in lines if line.where == GPU and line.is_cache) - limit if limit is not None else 0


def _most(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The largest n in [low, high] for which a monotone condition holds; `low` is taken to hold."""
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low
