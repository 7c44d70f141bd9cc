"""A trace through a policy."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field

import numpy as np

from bench.scaling.policies import Policy, Sample
from bench.scaling.replica import Book, Machine, Replica
from bench.scaling.trace import Trace
from llmservice_scaling.signals import RATE_SECONDS


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is not the policy or the trace. Seconds."""

    machine: Machine = field(default_factory=Machine)
    replica: type[Replica] = Replica
    cold_start: float = 90.0
    lag: int = 5
    """Age of what a policy reads."""
    least: int = 1
    most: int = 16
    begin: int = 1
    tail: float = 600.0
    """After the last request."""


@dataclass(frozen=True, slots=True)
class Result:
    """`attained`: share of requests with a first token within 2 s. `flips`: how often the direction changed."""

    attained: float
    gpu_hours: float
    flips: int
    peak: int
    counts: list[tuple[float, int]] = field(default_factory=list)
    """(time, replicas) at each change."""


def simulate(trace: Trace, policy: Policy, world: World) -> Result:
    """Requests go to the replica that has the fewest, as with every policy."""
    return Simulation(trace, policy, world).run()


class Simulation:
    def __init__(self, trace: Trace, policy: Policy, world: World) -> None:
        nothing = [math.nan] * len(trace.times)
        self._times: list[float] = trace.times.tolist()
        self._book = Book(trace.prompts.tolist(), trace.answers.tolist(), nothing, nothing.copy())
        self._tokens_before = [0, *np.cumsum(trace.prompts).tolist()]
        self._policy, self._world = policy, world
        self._replicas = [world.replica(world.machine, self._book, 0.0, 0.0) for _ in range(world.begin)]
        self._leaving: list[Replica] = []
        self._held: list[int] = []
        self._held_tokens = 0
        self._arrived = 0
        self._gpu_seconds = 0.0
        self._flips = self._direction = 0
        self._counts = [(0.0, world.begin)]

    def run(self) -> Result:
        end = self._times[-1] + self._world.tail
        samples: list[Sample] = []
        next_decision = 0.0
        for second in range(math.ceil(end)):
            now = float(second)
            self._until(now)
            samples.append(self._sample(now))
            if now >= next_decision and len(samples) > self._world.lag:
                next_decision = now + self._policy.period
                self._decide(samples, now)
        self._until(end)
        return self._result(end)

    def _decide(self, samples: list[Sample], now: float) -> None:
        seen = samples[: len(samples) - self._world.lag]
        wanted = self._policy(seen, len(self._replicas), now)
        self._scale(min(self._world.most, max(self._world.least, wanted)), now)

    def _until(self, now: float) -> None:
        """Requests that come, one by one; then everybody, up to `now`."""
        while self._arrived < len(self._times) and self._times[self._arrived] <= now:
            at, request = self._served_at(now), self._arrived
            self._arrived += 1
            self._give(at)
            ready = [replica for replica in self._replicas if replica.ready_at <= at]
            if not ready:
                self._held.append(request)
                self._held_tokens += self._book.prompts[request]
                continue
            for replica in ready:
                if replica.next_event <= at:
                    replica.advance(at)
            min(ready, key=_load).give(request, at)
        self._give(now)
        for replica in self._replicas:
            replica.advance(now)
        for replica in self._leaving:
            replica.advance(now)
            if not replica.load:
                self._gpu_seconds += now - replica.started_at
        self._leaving = [replica for replica in self._leaving if replica.load]

    def _served_at(self, now: float) -> float:
        """The next request: when it comes."""
        return self._times[self._arrived]

    def _give(self, now: float) -> None:
        """What is held, once somebody is there."""
        if not self._held:
            return
        ready = [replica for replica in self._replicas if replica.ready_at <= now]
        if ready:
            for request in self._held:
                min(ready, key=_load).give(request, now)
            self._held, self._held_tokens = [], 0

    def _sample(self, now: float) -> Sample:
        ready = [replica for replica in self._replicas if replica.ready_at <= now]
        count, held, book = len(ready), len(self._held), self._book
        since = bisect.bisect_left(self._times, now - RATE_SECONDS, 0, self._arrived)
        came = self._tokens_before[self._arrived] - self._tokens_before[since]
        return Sample(
            at=now,
            held=held,
            in_flight=sum(replica.load for replica in ready) + held,
            waiting=sum(replica.waiting for replica in ready) + held,
            waiting_tokens=sum(replica.waiting_tokens for replica in ready) + self._held_tokens,
            kv=sum(replica.kv for replica in ready) / self._world.machine.kv_tokens / count if count else 0.0,
            busy=sum(1 for replica in ready if replica.load) / count if count else 0.0,
            ready=count,
            current=len(self._replicas),
            prompt_rate=came / RATE_SECONDS,
            request_rate=(self._arrived - since) / RATE_SECONDS,
            mean_prompt=book.finished_prompts / max(1, book.finished),
            mean_answer=book.finished_answers / max(1, book.finished),
        )

    def _scale(self, wanted: int, now: float) -> None:
        current = len(self._replicas)
        if wanted == current:
            return
        direction = 1 if wanted > current else -1
        self._flips += direction == -self._direction
        self._direction = direction
        self._counts.append((now, wanted))
        ready_at = now + self._world.cold_start
        self._replicas += [
            self._world.replica(self._world.machine, self._book, now, ready_at) for _ in range(wanted - current)
        ]
        # Those that start go first, then those that have least to do.
        order = sorted(self._replicas, key=lambda replica: (replica.ready_at <= now, replica.load))
        going = order[: max(0, current - wanted)]
        for replica in going:
            if replica.ready_at > now or not replica.load:
                self._gpu_seconds += now - replica.started_at
            else:
                self._leaving.append(replica)
        self._replicas = [replica for replica in self._replicas if replica not in going]

    def _result(self, end: float) -> Result:
        for replica in (*self._replicas, *self._leaving):
            self._gpu_seconds += end - replica.started_at
        waited = np.array(self._book.first) - np.array(self._times)
        return Result(
            attained=float(np.mean(np.nan_to_num(waited, nan=math.inf) <= 2.0)),
            gpu_hours=self._gpu_seconds / 3600,
            flips=self._flips,
            peak=max(count for _, count in self._counts),
            counts=self._counts,
        )


def _load(replica: Replica) -> int:
    return replica.load
