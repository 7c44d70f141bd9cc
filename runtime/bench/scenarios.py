"""The three questions of the benchmark, as pure descriptions plus one runner each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.load import body_of, closed_loop, open_loop
from bench.prompts import make_prompt
from bench.stats import Figures, figures

ANSWER_TOKENS = 64
SHORT_PROMPT_TOKENS = 48
LONG_PROMPT_TOKENS = 2000
PREFIX_TOKENS = 1000

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the result table: `run(base_url, seed)` drives one server once."""

    name: str
    run: Callable[[str, int], Awaitable[Figures]]


def short_bodies(seed: str, workers: int, each: int, count: Count) -> list[list[dict[str, object]]]:
    """`workers` queues of `each` short prompts, all different, and different for every seed."""
    return [
        [
            body_of(make_prompt(f"{seed} {worker} {n}", SHORT_PROMPT_TOKENS, count), ANSWER_TOKENS, "bench")
            for n in range(each)
        ]
        for worker in range(workers)
    ]


def streams(concurrency: int, count: Count) -> Scenario:
    """(a) Closed loop of short prompts, 64 tokens each."""
    each = 8 if concurrency == 1 else 3

    async def run(base: str, seed: int) -> Figures:
        return figures(await closed_loop(base, short_bodies(f"a {concurrency} {seed}", concurrency, each, count)))

    return Scenario(f"(a) {concurrency} streams", run)


def streams_with_arrivals(concurrency: int, count: Count, *, arrivals: int = 14, interval: float = 5.0) -> Scenario:
    """(b) The same while 2,000-token prompts arrive at fixed times; latency over the streams, throughput over all."""

    async def run(base: str, seed: int) -> Figures:
        long = [
            body_of(make_prompt(f"b {concurrency} {seed} {n}", LONG_PROMPT_TOKENS, count), ANSWER_TOKENS, "bench")
            for n in range(arrivals)
        ]
        short = short_bodies(f"b {concurrency} {seed}", concurrency, 8, count)
        live, late = await asyncio.gather(closed_loop(base, short), open_loop(base, long, interval))
        return figures(live, late)

    return Scenario(f"(b) {concurrency} streams, long prompts arriving", run)


def shared_prefix(count: Count) -> Scenario:
    """(c) One request fills the cache, then 12 with the same 1,000-token prefix and different endings, 4 at a time."""

    async def run(base: str, seed: int) -> Figures:
        prefix = make_prompt(f"c {seed}", PREFIX_TOKENS, count)
        endings = [make_prompt(f"c {seed} {n}", 24, count) for n in range(13)]
        bodies = [body_of(f"{prefix} {ending}", 16, "bench") for ending in endings]
        await closed_loop(base, [bodies[:1]])
        return figures(await closed_loop(base, [bodies[1 + n :: 4] for n in range(4)]))

    return Scenario("(c) shared 1,000-token prefix", run)


def all_scenarios(count: Count) -> list[Scenario]:
    """In the order of the table."""
    return [
        *(streams(concurrency, count) for concurrency in (1, 8, 16, 32)),
        *(streams_with_arrivals(concurrency, count) for concurrency in (8, 16)),
        shared_prefix(count),
    ]
