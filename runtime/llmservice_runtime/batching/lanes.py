"""Which answers run and which wait, and what they hold of the KV memory.

Batch work runs in places that live answers leave. What of it runs when a live one comes keeps its place, and its
memory, while it pauses: to go on costs nothing then. Where the live one needs that place or that memory, the youngest
gives them back; what it computed stays as a prefix, the first to go.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from llmservice_runtime.batching.kvcache import KvCache, common_prefix
from llmservice_runtime.batching.memory import Memory
from llmservice_runtime.contract.bounds import batch_places
from llmservice_runtime.generation.answers import Answer
from llmservice_runtime.openai.metrics import EngineMetrics

WORTH_WAITING = 64
"""A prompt waits for another that computes the same beginning now, when that saves at least so many tokens."""
WORTH_SHARING = 32
"""The same among the answers of one request: they begin alike to the last token."""
LOOKAHEAD = 8
"""Waiting answers looked at beyond the first that must wait for a shared beginning."""
GAP_STEPS = 4
"""Steps that a gap between running streams may stay open: the next answer may fill it for nothing."""
GROWTH = 16
"""Cells that each running answer should find free when another is admitted."""


class Lanes:
    """`running` in the order of arrival, at most `most`; `waiting` first come, first served, live ones before batch
    work."""

    def __init__(self, kv: KvCache, memory: Memory, most: int, metrics: EngineMetrics) -> None:
        self.kv = kv
        self.running: list[Answer] = []
        self.waiting: deque[Answer] = deque()
        self._memory = memory
        self._most = most
        self._metrics = metrics
        self._gap_steps = 0

    def tidy(self) -> None:
        """Close a gap between running streams that no new answer filled."""
        self._gap_steps = self._gap_steps + 1 if len(self.running) > 1 and self.kv.has_gap() else 0
        if self._gap_steps > GAP_STEPS:
            source, target, ops = self.kv.close_gap()
            self._memory.apply(ops)
            next(answer for answer in self.running if answer.slot == source).slot = target

    def queue(self, answers: Sequence[Answer]) -> None:
        """They wait, behind all of their kind."""
        live = sum(not other.batch for other in self.waiting)
        for number, answer in enumerate(answers):
            self.waiting.insert(len(self.waiting) if answer.batch else live + number, answer)

    @property
    def urgent(self) -> bool:
        """Whether a live answer waits, or computes its prompt."""
        waits = bool(self.waiting) and not self.waiting[0].batch
        return waits or any(answer.pending > 1 and not answer.batch for answer in self.running)

    def admit(self) -> None:
        """Let waiting answers run, as places and memory allow."""
        if not self.waiting:
            return
        passed = 0
        for answer in list(self.waiting)[: self._most + LOOKAHEAD]:
            if passed > LOOKAHEAD or (answer.batch and not self._takes_batch()):
                return
            while len(self.running) >= self._most:
                if answer.batch or not self._make_way():
                    return
            if self._better_later(answer):
                passed += 1
                continue
            while not self._place(answer):
                if answer.batch or not self._make_way():
                    return

    def _takes_batch(self) -> bool:
        return not self.urgent and sum(answer.batch for answer in self.running) < batch_places(self._most)

    def _make_way(self) -> bool:
        """The youngest batch work gives its place back, for a live answer; whether there was some."""
        answer = next((answer for answer in reversed(self.running) if answer.batch), None)
        if answer is not None:
            self.back(answer, keep=not answer.suspect)
        return answer is not None

    def _better_later(self, answer: Answer) -> bool:
        """Whether a running prompt computes this one's beginning now."""
        if not self.kv.reuse or answer.prompt_logprobs is not None:
            return False
        tokens = answer.tokens[: answer.length]
        have = -1
        for other in self.running:
            if other.pending > 1 and other.adapter == answer.adapter and (answer.batch or not other.batch):
                shared = min(common_prefix(other.tokens[: other.length], tokens), answer.length - 1)
                if shared - other.fed >= (WORTH_SHARING if other.stream is answer.stream else WORTH_WAITING):
                    have = self.kv.match(tokens, answer.adapter, answer.shown.fit)[1] if have < 0 else have
                    if shared - have >= WORTH_SHARING:
                        return True
        return False

    def _place(self, answer: Answer) -> bool:
        tokens = answer.tokens[: answer.length]
        reuse = answer.prompt_logprobs is None
        if self.kv.bounded and self.running:
            known = self.kv.match(tokens, answer.adapter, answer.shown.fit)[1] if reuse and self.kv.shared else 0
            need = answer.length - known + sum(other.pending + GROWTH for other in self.running)
            self._memory.apply(self.kv.make_room(need))
            if self.kv.free < need:
                return False
        placement = self.kv.place(tokens, reuse=reuse, adapter=answer.adapter, fit=answer.shown.fit)
        if placement is None:
            return False
        self._memory.apply(placement.ops)
        self.waiting.remove(answer)
        answer.slot, answer.fed = placement.slot, placement.reused
        if answer.scheduled is None:
            answer.scheduled = time.monotonic()
            answer.cached = placement.reused
            self._metrics.prefix_cache(answer.prompt_length, placement.reused)
        self.running.append(answer)
        return True

    def preempt(self) -> None:
        """The youngest, of batch work where there is some, gives its cells back and is computed again later; nothing of
        its answer is lost."""
        self._metrics.preempted()
        self.back(next((answer for answer in reversed(self.running) if answer.batch), self.running[-1]))

    def back(self, answer: Answer, *, keep: bool = False) -> None:
        """Out of its place, to the head of the queue of its kind; with `keep` what it computed may be found again."""
        self.release(answer, keep=keep)
        self.running.remove(answer)
        answer.fed = 0
        self.waiting.insert(sum(not other.batch for other in self.waiting) if answer.batch else 0, answer)

    def release(self, answer: Answer, *, keep: bool) -> None:
        """Its memory is free; with `keep` as a prefix for others."""
        if answer.slot is not None:
            self._memory.apply(self.kv.release(answer.slot, keep=keep, spare=answer.batch))
            answer.slot = None

    def remove(self, answer: Answer, *, keep: bool) -> None:
        """Take an answer out of wherever it is."""
        self.release(answer, keep=keep)
        for where in (self.running, self.waiting):
            if answer in where:
                where.remove(answer)

    def make_room(self, tokens: int) -> None:
        """Evict idle prefixes until so many cells are free, or none is left."""
        self._memory.apply(self.kv.make_room(tokens))

    def evict(self) -> bool:
        """Drop one idle prefix; whether there was one."""
        ops = self.kv.evict()
        self._memory.apply(ops)
        return bool(ops)

    def uses(self, adapter: int) -> bool:
        """Whether an answer of this adapter runs or waits."""
        return any(answer.adapter == adapter for where in (self.running, self.waiting) for answer in where)

    def drop(self, adapter: int) -> None:
        """What is kept of an adapter goes: nobody can ask for it again."""
        self._memory.apply(self.kv.drop(adapter))

    def forget(self) -> None:
        """Nothing runs, nothing is held: after a failure of the memory itself."""
        self._memory.clear()
        for slot in self.kv.slots:
            self.kv.trim(slot.number, 0)
