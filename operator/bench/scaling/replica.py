"""One replica as a model: prompts one after the other, answers all together, a bounded KV cache.

Between two events everything moves evenly, so it is advanced from event to event, not in small steps.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """An 8B model on a GPU of the A100's class; assumed (docs/benchmarks-scaling.md says so)."""

    prompt_rate: float = 12_000.0
    """Prompt tokens per second, when nothing is answered."""
    step_seconds: float = 0.012
    """One token of one answer ..."""
    each_seconds: float = 0.00035
    """... and more for each answer beside it."""
    sequences: int = 64
    kv_tokens: int = 120_000
    prompt_share: float = 0.7
    """Of its speed that a prompt has while answers run ..."""
    answer_share: float = 0.3
    """... and of theirs that answers have meanwhile."""

    @property
    def answer_rate(self) -> float:
        """Tokens per second of all answers together, with every place taken."""
        return self.sequences / (self.step_seconds + self.each_seconds * self.sequences)


@dataclass(slots=True)
class Book:
    """What came of each request: times of first and last token, NaN until then."""

    prompts: list[int]
    answers: list[int]
    first: list[float]
    done: list[float]
    finished: int = 0
    finished_prompts: int = 0
    finished_answers: int = 0

    def finish(self, request: int, now: float) -> None:
        """Its last token."""
        self.done[request] = now
        self.finished += 1
        self.finished_prompts += self.prompts[request]
        self.finished_answers += self.answers[request]


ENDS_WITHIN = 1e-6
"""Tokens: what rounding may leave."""


class Replica:
    """Ready from `ready_at`; takes no more once `draining`."""

    def __init__(self, machine: Machine, book: Book, started_at: float, ready_at: float) -> None:
        self.started_at = started_at
        self.ready_at = ready_at
        self.draining = False
        self.kv = 0
        self.waiting_tokens = 0
        self.next_event = float("inf")
        """Until then `advance` would change nothing that others see."""
        self._machine = machine
        self._book = book
        self._at = ready_at
        self._queue: deque[int] = deque()
        self._prompt: int | None = None
        self._prompt_left = 0.0
        self._running: list[tuple[float, int]] = []
        self._tokens = 0.0
        """That an answer which runs since the beginning would have."""

    @property
    def waiting(self) -> int:
        """Requests that are not begun."""
        return len(self._queue)

    @property
    def load(self) -> int:
        """Requests it has."""
        return len(self._queue) + len(self._running) + (self._prompt is not None)

    def give(self, request: int, now: float) -> None:
        """A request; `now` is not before what was advanced to."""
        self.advance(now)
        self._queue.append(request)
        self.waiting_tokens += self._book.prompts[request]
        self._begin()
        self._foresee()

    def advance(self, now: float) -> None:
        """Up to `now`."""
        while self.next_event <= now:
            self._move(self.next_event)
            self._end_answers()
            self._end_prompt()
            self._begin()
            self._foresee()
        self._move(max(now, self._at))

    def _speeds(self) -> tuple[float, float]:
        """Seconds of prompt per second, tokens of each answer per second."""
        running, machine = len(self._running), self._machine
        if not running:
            return 1.0, 0.0
        step = machine.step_seconds + machine.each_seconds * running
        return machine.prompt_share, (machine.answer_share if self._prompt is not None else 1.0) / step

    def _foresee(self) -> None:
        prompt, token = self._speeds()
        times = []
        if self._prompt is not None:
            times.append(self._prompt_left / prompt)
        if self._running:
            times.append(max(0.0, self._running[0][0] - self._tokens) / token)
        self.next_event = self._at + min(times) if times else float("inf")

    def _move(self, now: float) -> None:
        passed = now - self._at
        if passed <= 0:
            return
        prompt, token = self._speeds()
        self._prompt_left -= passed * prompt
        self._tokens += passed * token
        self._at = now

    def _end_answers(self) -> None:
        while self._running and self._running[0][0] <= self._tokens + ENDS_WITHIN:
            _, request = heapq.heappop(self._running)
            self.kv -= self._book.prompts[request] + self._book.answers[request]
            self._book.finish(request, self._at)

    def _end_prompt(self) -> None:
        if self._prompt is not None and self._prompt_left <= 1e-9:
            self._book.first[self._prompt] = self._at
            heapq.heappush(self._running, (self._tokens + self._book.answers[self._prompt] - 1.0, self._prompt))
            self._prompt = None

    def _begin(self) -> None:
        if self._prompt is not None or not self._queue or len(self._running) >= self._machine.sequences:
            return
        request = self._queue[0]
        needs = self._book.prompts[request] + self._book.answers[request]
        if self.kv + needs > self._machine.kv_tokens and self._running:  # one alone is served, however long
            return
        self._queue.popleft()
        self.kv += needs
        self.waiting_tokens -= self._book.prompts[request]
        self._prompt, self._prompt_left = request, self._book.prompts[request] / self._machine.prompt_rate
