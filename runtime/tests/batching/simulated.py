"""A machine and its clients on fake time: what a policy of steps does to those who wait."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llmservice_runtime.batching.scheduler import SHORT_PROMPT, Pace, StepBound, backlog, plan_step, turns

BATCH = 2048
CHECK = 0.004
"""Seconds between an answer's end and its client's next request, on average."""


@dataclass(frozen=True)
class Machine:
    """A step takes `beat` seconds, `lane` for each that generates and `token` for each token of a prompt.

    `tile`: of prompts so many tokens more, as small products are slower.
    """

    beat: float
    lane: float
    token: float
    tile: int = 18

    def seconds(self, generating: int, prompt: int) -> float:
        computed = self.token * (prompt + self.tile) if prompt else 0.0
        return self.beat + self.lane * generating + computed if generating else max(self.beat, computed)


class Policy(Protocol):
    def plan(self, pending: Sequence[int], fed: Sequence[int]) -> list[int]: ...
    def observe(self, pending: Sequence[int], taken: Sequence[int], seconds: float) -> None: ...


class Ours:
    """The policy as it runs."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.pace, self.bound = Pace(BATCH, seconds), StepBound(BATCH)

    def plan(self, pending: Sequence[int], fed: Sequence[int]) -> list[int]:
        limits = [BATCH if now else 0 for now in turns(pending, fed)]
        pace, prompt = self.pace, self.bound.tokens
        chunk = pace.chunk(*backlog(pending))
        return plan_step(pending, limits, chunk=chunk, burst=pace.burst, prompt=prompt, batch=BATCH, free=1_000_000)

    def observe(self, pending: Sequence[int], taken: Sequence[int], seconds: float) -> None:
        generated = sum(took for tokens, took in zip(pending, taken, strict=True) if tokens == 1)
        prompt = sum(taken) - generated
        long = sum(took for tokens, took in zip(pending, taken, strict=True) if tokens > SHORT_PROMPT)
        self.pace.observe(generated, prompt, seconds, long)
        self.bound.observe(generated, prompt, seconds)


class Whole:
    """Prompts whole, as many as a batch takes, beside every token of those that generate."""

    def plan(self, pending: Sequence[int], fed: Sequence[int]) -> list[int]:
        left, taken = BATCH - sum(tokens == 1 for tokens in pending), []
        for tokens in pending:
            taken.append(1 if tokens == 1 else min(tokens, left))
            left -= taken[-1] if tokens > 1 else 0
        return taken

    def observe(self, pending: Sequence[int], taken: Sequence[int], seconds: float) -> None: ...


@dataclass(order=True)
class Request:
    at: float
    prompt: int = field(compare=False)
    stream: int | None = field(compare=False)
    """None = a long prompt beside the streams."""
    fed: int = field(default=0, compare=False)
    times: list[float] = field(default_factory=list, compare=False)

    @property
    def pending(self) -> int:
        return max(self.prompt - self.fed, 1)


@dataclass(frozen=True)
class Figures:
    """Of the streams, seconds; tokens per second of all."""

    throughput: float
    firsts: list[float]
    gaps: list[float]
    long_firsts: list[float]

    @staticmethod
    def quantile(values: Sequence[float], share: float) -> float:
        return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def run(
    policy: Policy, slots: int, machine: Machine, streams: int, each: int = 3, longs: int = 0, seed: int = 0
) -> Figures:
    """`streams` clients that send `each` prompts of 48 tokens one after the other, for 64 tokens; `longs` prompts of
    2,000 tokens beside them, one every 5 s."""
    dice = random.Random(seed)
    later: Callable[[], float] = lambda: 0.002 + dice.expovariate(1 / CHECK)  # noqa: E731
    coming = [Request(later(), 48, stream) for stream in range(streams)]
    coming += [Request(5.0 * (number + 1), 2000, None) for number in range(longs)]
    heapq.heapify(coming)
    left = dict.fromkeys(range(streams), each - 1)
    queue: list[Request] = []
    running: list[Request] = []
    done: list[Request] = []
    now = 0.0
    while coming or queue or running:
        if not (running or queue):
            now = max(now, coming[0].at)
        while coming and coming[0].at <= now:
            queue.append(heapq.heappop(coming))
        running += [queue.pop(0) for _ in range(min(len(queue), slots - len(running)))]
        pending = [request.pending for request in running]
        taken = policy.plan(pending, [request.fed for request in running])
        generating = sum(took for tokens, took in zip(pending, taken, strict=True) if tokens == 1)
        assert sum(taken) > 0, "a step that computes nothing"
        seconds = machine.seconds(generating, sum(taken) - generating)
        now += seconds
        policy.observe(pending, taken, seconds)
        for request, took in zip(list(running), taken, strict=True):
            request.fed += took
            if not took or request.fed < request.prompt:
                continue
            request.times.append(now)
            if len(request.times) == 64:
                running.remove(request)
                done.append(request)
                if request.stream is not None and left[request.stream]:
                    left[request.stream] -= 1
                    heapq.heappush(coming, Request(now + later(), 48, request.stream))
    live = [request for request in done if request.stream is not None]
    return Figures(
        64 * len(done) / now,
        [request.times[0] - request.at for request in live],
        [b - a for request in live for a, b in zip(request.times, request.times[1:], strict=False)],
        [request.times[0] - request.at for request in done if request.stream is None],
    )
