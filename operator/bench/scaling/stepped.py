"""The simulation that the published table was made with: everything in steps of 0.1 s.

It shows that policies and the loop around them are what they were there. Comparisons run on `replica.Replica` instead:
a step serves several short prompts, or prompts and answers, as if each had most of it. Policies that act on what is
read at one moment follow such differences by up to 10 points, and even the rounding of sums of 0.1, which is done here
too.
"""

from __future__ import annotations

import dataclasses
import math

from bench.scaling.policies import Policy, Sample
from bench.scaling.replica import Replica
from bench.scaling.simulate import Result, Simulation, World
from bench.scaling.trace import Trace

STEP = 0.1
SMALLEST = 1e-3
SAMPLE_STEPS = 10


def simulate_in_steps(trace: Trace, policy: Policy, world: World) -> Result:
    """As `simulate`, as it was done for the table."""
    return _InSteps(trace, policy, dataclasses.replace(world, replica=SteppedReplica)).run()


class _InSteps(Simulation):
    def run(self) -> Result:
        end = self._times[-1] + self._world.tail
        samples: list[Sample] = []
        now, steps, next_decision = 0.0, 0, 0.0
        while now < end:
            self._until(now)
            if steps % SAMPLE_STEPS == 0:
                samples.append(self._sample(now))
            if now >= next_decision and len(samples) > self._world.lag:
                next_decision = now + self._policy.period
                self._decide(samples, now)
            now, steps = now + STEP, steps + 1
        return self._result(end)

    def _served_at(self, now: float) -> float:
        return now


class SteppedReplica(Replica):
    """The same to those who use it."""

    _label = 0
    """Of the next step; what came until its time is served in it."""

    def give(self, request: int, now: float) -> None:
        if not self.load:
            self._label = max(self._label, math.ceil(round(now / STEP, 6)))
        self._queue.append(request)
        self.waiting_tokens += self._book.prompts[request]
        self.next_event = (self._label + 0.5) * STEP  # not at once: others may come in the same step

    def advance(self, now: float) -> None:
        while self.next_event <= now + 0.6 * STEP:
            self._step(self._label * STEP)
            self._label += 1
            self.next_event = (self._label + 0.5) * STEP if self.load else math.inf

    def _step(self, at: float) -> None:
        self._at = at
        left = STEP
        while left > 1e-9:
            self._begin()
            if self._prompt is None:
                break
            answering = bool(self._running)
            used = min(left * (self._machine.prompt_share if answering else 1.0), self._prompt_left)
            self._prompt_left -= used
            self._end_prompt()
            left -= max(used, SMALLEST)
            if self._running and self._prompt is not None:
                break
        if self._running:
            share = self._machine.answer_share if self._prompt is not None else 1.0
            step = self._machine.step_seconds + self._machine.each_seconds * len(self._running)
            self._tokens += STEP * share / step
            self._end_answers()
