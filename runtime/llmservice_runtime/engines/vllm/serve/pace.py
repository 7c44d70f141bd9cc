"""How many steps were completed and what they take: what the stat logger sees, and the API reports."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from llmservice_runtime.openai.metrics import STEP_BUCKETS, Histogram

KEPT = 16
"""Steps whose longest says what the next one may take."""

PROMPT_GAIN = 10.0
"""A token of a prompt is expected to take so much less than one of an answer, or what was measured where that is more:
it shares the pass over the weights. Where it takes as long, a step is still within the supervisor's patience."""


class Pace:
    """Steps of all engine cores of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps = 0
        self._clock = clock
        self._queues: dict[int, tuple[int, int]] = {}
        self._kv: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._durations: deque[float] = deque(maxlen=KEPT)
        self.times = Histogram(STEP_BUCKETS)
        """Of all steps, seconds."""
        self._speed = 0.0
        self._batch = 0

    def measured(self, speed: float, batch: int, prompts: float = 0.0) -> None:
        """What the self-test made (tokens per second of one answer and of a prompt, 0 = not known), and the most tokens
        of a step. A long prompt is slower than the short one of the self-test, so the less is believed."""
        known = [told for told in (speed * PROMPT_GAIN, prompts) if told]
        self._speed, self._batch = min(known, default=0.0), batch

    def stepped(self, engine: int, running: int, waiting: int, kv_used: float = 0.0) -> None:
        """One engine core completed a step, has so many requests left, and its KV cache in use for them (0 to 1)."""
        now = self._clock()
        self.steps += 1
        if engine in self._last:
            self._durations.append(now - self._last[engine])
            self.times.observe(now - self._last[engine])
        if running or waiting:
            self._last[engine] = now
        else:
            self._last.pop(engine, None)  # what comes next is no step's time but the wait for a request
        self._queues[engine] = (running, waiting)
        self._kv[engine] = kv_used if running or waiting else 0.0

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return sum(running for running, _ in self._queues.values())

    @property
    def waiting(self) -> int:
        """Requests that an engine core has queued."""
        return sum(waiting for _, waiting in self._queues.values())

    @property
    def kv_used(self) -> float:
        """Share of all KV caches that requests use: each engine core has one of the same size."""
        return sum(self._kv.values()) / len(self._kv) if self._kv else 0.0

    @property
    def step_seconds(self) -> float:
        """The longest of the last steps; 0 = none was measured."""
        return max(self._durations, default=0.0)

    def expected(self, prompt: int) -> float:
        """Seconds of a step beside a prompt of so many tokens at most: of the first long one no step before tells."""
        of_prompt = min(prompt, self._batch) / self._speed if self._speed else 0.0
        return max(self.step_seconds, of_prompt)


PACE = Pace()
