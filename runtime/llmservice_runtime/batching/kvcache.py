"""Which slot of the model's memory holds which tokens, and what of them a new prompt can reuse. Pure bookkeeping.

Adapters change keys and values: a slot is of the adapter that computed it, and only its prompts reuse it.

Two layouts. Split: every slot has `cells / slots` cells of its own, and sharing copies. Shared (unified): one pool;
slots that begin alike hold the same cells. Every change is returned as operations for the engine's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from llmservice_runtime.batching.neighbours import groups

Ints = npt.NDArray[np.int32]
MIN_REUSE = 16
"""Shorter common beginnings are computed again: cheaper than the bookkeeping."""
SPARE_TAIL = 256
"""An idle slot is cut for a prompt that needs its beginning, unless that loses more than this and half of it."""
WORTH_MOVING = 128
"""Split: an idle prefix this long is moved out of the way of an answer that wants its place; shorter ones go."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Slot `target` (empty) gets the first `length` tokens of `source`."""

    source: int
    target: int
    length: int
    saved: int = 0
    """By how much fewer positions these have: pictures take less of them than tokens, in some models."""


@dataclass(frozen=True, slots=True)
class Trim:
    """Slot keeps its first `length` tokens; `saved` as of Copy."""

    slot: int
    length: int
    saved: int = 0


Op = Copy | Trim


@dataclass(slots=True)
class Slot:
    """Tokens in one sequence: `tokens[:length]`. `cells[:length]` number the pool's cells (shared layout).

    `saves` are pictures that take fewer positions than tokens: (behind which token, by how many).
    """

    number: int
    adapter: int = 0
    """That computed it; 0 = the model itself."""
    busy: bool = False
    length: int = 0
    used_at: int = 0
    tokens: Ints = field(default_factory=lambda: np.empty(0, np.int32))
    cells: Ints = field(default_factory=lambda: np.empty(0, np.int32))
    saves: tuple[tuple[int, int], ...] = ()

    def saved(self, length: int) -> int:
        """Positions that its first `length` tokens save."""
        return sum(positions for end, positions in self.saves if end <= length)


@dataclass(frozen=True, slots=True)
class Placement:
    """A prompt's slot, how many of its tokens are there already, what the memory must do first."""

    slot: int
    reused: int
    ops: tuple[Op, ...]


Fit = Callable[[int], int]
"""Of so many first tokens of a prompt those that may be taken from elsewhere: a picture is all there or not."""


def common_prefix(a: Ints, b: Ints) -> int:
    """Length of the longest common beginning."""
    n = min(a.size, b.size)
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if different.size else n


class KvCache:
    """`slots` sequences over `cells` cells. `reuse` False: this model's memory can't be cut or shared.

    `bounded` (a shared layout is): all slots together may hold less than each of them could alone.
    """

    def __init__(
        self,
        slots: int,
        cells: int,
        *,
        shared: bool,
        reuse: bool,
        idle_cells: int | None = None,
        bounded: bool = False,
    ) -> None:
        self.slots = [Slot(number) for number in range(slots)]
        self.cells = cells
        self.shared = shared
        self.bounded = shared or bounded
        self.reuse = reuse
        self._idle_cells = cells if idle_cells is None else idle_cells
        self._clock = 0
        self._free = np.arange(cells if shared else 0, dtype=np.int32)
        self._n_free = self._free.size
        self._references = np.zeros(cells if shared else 0, np.int32)

    @property
    def free(self) -> int:
        """Cells that nobody holds, idle prefixes neither."""
        if self.shared:
            return int(self._n_free)
        return self.cells - sum(slot.length for slot in self.slots)

    def busy_cells(self) -> int:
        """Cells that running answers hold (shared ones count once for each)."""
        return min(self.cells, sum(slot.length for slot in self.slots if slot.busy))

    def idle(self) -> Iterator[Slot]:
        """Slots that can be had, the least useful first: empty, then the longest unused."""
        yield from sorted((s for s in self.slots if not s.busy), key=lambda s: (s.length > 0, s.used_at))

    def match(self, prompt: Ints, adapter: int = 0, fit: Fit | None = None) -> tuple[Slot | None, int]:
        """The adapter's slot with the longest beginning in common, idle ones first; never all of it, as its last logits
        count."""
        best, length = None, 0
        for slot in sorted(self.slots, key=lambda s: s.busy) if self.reuse else ():
            if slot.adapter == adapter and slot.length > length:
                n = min(common_prefix(slot.tokens[: slot.length], prompt), prompt.size - 1)
                n = n if fit is None else fit(n)
                if n > length:
                    best, length = slot, n
        return (best, length) if length >= MIN_REUSE else (None, 0)

    def place(self, prompt: Ints, *, reuse: bool = True, adapter: int = 0, fit: Fit | None = None) -> Placement | None:
        """A slot for a prompt, busy from now on; None when all are busy."""
        idle = list(self.idle())
        if not idle:
            return None
        source, length = self.match(prompt, adapter, fit) if reuse else (None, 0)
        ops: list[Op] = []
        target = self._target(idle, source, adapter)
        if source is None:
            self._clear(target, ops)
        elif not source.busy and (len(idle) == 1 or self._in_place(source, target, length)):
            target = source
            self._cut(target, length, ops)
        else:
            self._clear(target, ops, source)
            self._share(source, target, length)
            ops.append(Copy(source.number, target.number, length, source.saved(length)))
            if not (self.shared or source.busy) and self._spare(source, length):
                self._cut(source, 0, ops)
        target.busy, target.adapter = True, adapter
        return Placement(target.number, length, tuple(ops))

    def _target(self, idle: list[Slot], source: Slot | None, adapter: int) -> Slot:
        """The slot to fill; not the one to copy from while there is another. Split: side by side with what is computed
        together, and away from the rest, which wants to grow too."""
        others = [slot for slot in idle if slot is not source] or idle
        if self.shared:
            return others[0]
        rest = [slot.number for slot in self.slots if slot.busy and slot.adapter != adapter]

        def cost(slot: Slot) -> tuple[int, int]:
            return self._groups_with(slot, adapter), -min((abs(n - slot.number) for n in rest), default=0)

        return min(others, key=cost)

    def _groups_with(self, slot: Slot, adapter: int) -> int:
        return groups({s.number for s in self.slots if s.busy and s.adapter == adapter} | {slot.number})

    def _in_place(self, source: Slot, target: Slot, length: int) -> bool:
        """Shared: copying is free while a slot is empty. Split: if little is lost and it does not stand apart."""
        if self.shared:
            return target.length > 0
        adapter = source.adapter
        return self._spare(source, length) and self._groups_with(source, adapter) <= self._groups_with(target, adapter)

    def _spare(self, source: Slot, length: int) -> bool:
        """Whether cutting a slot to so many tokens loses little."""
        lost = source.length - length
        return lost <= SPARE_TAIL or lost <= length

    def has_gap(self) -> bool:
        """Split: whether running answers stand apart, and can be moved."""
        if self.shared or not self.reuse:
            return False
        return self._gap() is not None

    def close_gap(self) -> tuple[int, int, list[Op]]:
        """Where there is a gap: move the last running answer into it; (from, to, operations)."""
        gap = self._gap()
        assert gap is not None
        ops: list[Op] = []
        source, target = gap
        self._clear(target, ops)
        self._share(source, target, source.length)
        ops.append(Copy(source.number, target.number, source.length, source.saved(source.length)))
        self._cut(source, 0, ops)
        source.busy, target.busy = False, True
        return source.number, target.number, ops

    def _gap(self) -> tuple[Slot, Slot] | None:
        """The last running answer of an adapter, and the first idle slot between the others of its own."""
        of: dict[int, list[int]] = {}
        for slot in self.slots:
            if slot.busy:
                of.setdefault(slot.adapter, []).append(slot.number)
        for numbers in of.values():
            first, last = numbers[0], numbers[-1]
            if last - first >= len(numbers):
                idle = next((slot for slot in self.slots[first:last] if not slot.busy), None)
                if idle is not None:
                    return self.slots[last], idle
        return None

    def drop(self, adapter: int) -> list[Op]:
        """Forget the idle prefixes of an adapter."""
        ops: list[Op] = []
        for slot in self.slots:
            if slot.adapter == adapter and not slot.busy:
                self._cut(slot, 0, ops)
        return ops

    def _clear(self, slot: Slot, ops: list[Op], source: Slot | None = None) -> None:
        """Empty an idle slot. Split: a prefix worth it moves to the least useful idle slot (but not to `source`)."""
        if not self.shared and slot.length >= WORTH_MOVING:
            rest = next((s for s in self.idle() if s is not slot and s is not source), None)
            if rest is not None and (rest.length == 0 or rest.used_at < slot.used_at):
                used_at = slot.used_at
                self._cut(rest, 0, ops)
                self._share(slot, rest, slot.length)
                rest.used_at = used_at
                ops.append(Copy(slot.number, rest.number, slot.length, slot.saved(slot.length)))
        self._cut(slot, 0, ops)

    def extend(self, number: int, tokens: Ints, saves: int = 0) -> None:
        """The slot now also holds these tokens. The caller made sure of room. `saves`: positions that a picture, which
        ends with them, took less than tokens."""
        slot = self.slots[number]
        end = slot.length + tokens.size
        self._grow(slot, end)
        slot.tokens[slot.length : end] = tokens
        if self.shared:
            self._n_free -= tokens.size
            taken = self._free[self._n_free : self._n_free + tokens.size]
            slot.cells[slot.length : end] = taken
            self._references[taken] += 1
        slot.length = end
        if saves:
            slot.saves += ((end, saves),)
        self._clock += 1
        slot.used_at = self._clock

    def trim(self, number: int, length: int) -> list[Op]:
        """Forget what the slot holds from `length` on."""
        ops: list[Op] = []
        self._cut(self.slots[number], length, ops)
        return ops

    def release(self, number: int, *, keep: bool, spare: bool = False) -> list[Op]:
        """An answer ended: its tokens stay as a prefix for others (`keep`), or go. `spare`: before all other prefixes,
        where room is needed."""
        slot = self.slots[number]
        slot.busy = False
        slot.used_at = 0 if spare else slot.used_at
        ops: list[Op] = []
        if not (keep and self.reuse):
            self._cut(slot, 0, [])
            # Also when it is empty here: the memory may hold the beginning of a step that failed.
            ops.append(Trim(number, 0))
        elif self.shared:
            held = slot.tokens[: slot.length]
            idle = (s for s in self.slots if s is not slot and not s.busy and s.adapter == slot.adapter)
            shorter = (s for s in idle if 0 < s.length <= slot.length)
            for other in shorter:
                if common_prefix(other.tokens[: other.length], held) == other.length:
                    self._cut(other, 0, ops)
            while sum(s.length for s in self.slots if not s.busy) > self._idle_cells:
                ops += self.evict()
        return ops

    def evict(self) -> list[Op]:
        """Drop the longest unused idle prefix; no operations when there is none."""
        for slot in self.idle():
            if slot.length:
                return self.trim(slot.number, 0)
        return []

    def make_room(self, tokens: int) -> list[Op]:
        """Evict idle prefixes until `tokens` cells are free or nothing idle is left."""
        ops: list[Op] = []
        while self.bounded and self.free < tokens:
            dropped = self.evict()
            if not dropped:
                break
            ops += dropped
        return ops

    def _cut(self, slot: Slot, length: int, ops: list[Op]) -> None:
        if slot.length <= length:
            return
        if self.shared:
            gone = slot.cells[length : slot.length]
            self._references[gone] -= 1
            freed = gone[self._references[gone] == 0]
            self._free[self._n_free : self._n_free + freed.size] = freed
            self._n_free += freed.size
        slot.length = length
        slot.saves = tuple(save for save in slot.saves if save[0] <= length)
        ops.append(Trim(slot.number, length, slot.saved(length)))

    def _share(self, source: Slot, target: Slot, length: int) -> None:
        self._grow(target, length)
        target.tokens[:length] = source.tokens[:length]
        if self.shared:
            target.cells[:length] = source.cells[:length]
            self._references[source.cells[:length]] += 1
        target.length, target.adapter = length, source.adapter
        target.saves = tuple(save for save in source.saves if save[0] <= length)
        self._clock += 1
        source.used_at = target.used_at = self._clock

    def _grow(self, slot: Slot, size: int) -> None:
        if slot.tokens.size < size:
            new = max(size, 2 * slot.tokens.size, 256)
            slot.tokens = np.resize(slot.tokens, new) if slot.tokens.size else np.empty(new, np.int32)
            if self.shared:
                slot.cells = np.resize(slot.cells, new) if slot.cells.size else np.empty(new, np.int32)
