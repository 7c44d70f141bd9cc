"""Seeded traces of the shapes that published ones have (docs/benchmarks-scaling.md compares them).

What is drawn is the rate of every second, and the arrivals by it; lengths are lognormal, independent of each other and
of time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.scaling.trace import Floats, Trace, made

SECONDS = 3600


def code(seed: int) -> Trace:
    """As Azure's code completions of 2023, three times the rate: idle minutes, then hundreds of requests at once."""
    rng = np.random.default_rng([seed, 1])
    rate = np.zeros(SECONDS)
    at = 0.0
    while at < SECONDS:
        at += rng.exponential(14.0) if rng.random() < 0.88 else rng.uniform(60.0, 240.0)
        length = min(45.0, rng.lognormal(1.6, 0.8))
        seconds = np.arange(int(at), min(SECONDS, int(at + length) + 1))
        rate[seconds] += rng.lognormal(2.9, 0.6)
        at += length
    rate = np.minimum(rate, 60.0)
    return _drawn(f"code, seed {seed}", rng, rate * (7.7 / rate.mean()), (7.0, 1.36, 7500), (2.79, 0.85, 500))


def conversation(seed: int) -> Trace:
    """As Azure's conversations of 2023, three times the rate: nearly Poisson, around a level that wanders."""
    rng = np.random.default_rng([seed, 2])
    level = np.cumsum(rng.normal(0.0, 0.012, SECONDS))
    level += 0.3 * np.sin(np.linspace(0.0, 2 * np.pi, SECONDS) + rng.uniform(0.0, 2 * np.pi))
    rate = np.exp(np.clip(level - level.mean(), -0.6, 0.45))
    return _drawn(
        f"conversation, seed {seed}", rng, rate * (16.6 / rate.mean()), (6.63, 0.99, 4200), (5.02, 0.86, 1000)
    )


def long_prompts(seed: int) -> Trace:
    """As Mooncake's conversations: long prompts, an even rate, arrivals that come together every 3 s."""
    rng = np.random.default_rng([seed, 3])
    rate = np.exp(rng.normal(0.0, 0.15, SECONDS // 30).repeat(30))
    trace = _drawn(
        f"long prompts, seed {seed}", rng, rate * (3.4 / rate.mean()), (8.74, 1.2, 85_400), (5.34, 1.36, 1100)
    )
    return made(trace.name, np.floor(trace.times / 3) * 3, trace.prompts, trace.answers)


SHAPES: dict[str, Callable[[int], Trace]] = {"code": code, "conversation": conversation, "long prompts": long_prompts}

Lognormal = tuple[float, float, int]
"""mu, sigma, the longest."""


def _drawn(name: str, rng: np.random.Generator, rate: Floats, prompt: Lognormal, answer: Lognormal) -> Trace:
    counts = rng.poisson(rate)
    times = np.repeat(np.arange(len(rate)), counts) + rng.random(counts.sum())
    prompts, answers = (_lengths(rng, len(times), *shape) for shape in (prompt, answer))
    return made(name, times, prompts.astype(np.int64), answers.astype(np.int64))


def _lengths(rng: np.random.Generator, count: int, mu: float, sigma: float, longest: int) -> Floats:
    return np.clip(rng.lognormal(mu, sigma, count), 1, longest)


def facts(trace: Trace) -> dict[str, float]:
    """What the shapes are compared by: rates per second, peaks against the mean, tokens."""
    gaps = np.diff(trace.times)
    peaks = {f"peak {window} s": _peak(trace.times, window) for window in (1, 10, 60)}
    return {
        "requests": float(len(trace.times)),
        "rate": trace.rate,
        "gap CV": float(gaps.std() / gaps.mean()),
        **peaks,
        "prompt p50": float(np.percentile(trace.prompts, 50)),
        "prompt mean": float(trace.prompts.mean()),
        "answer p50": float(np.percentile(trace.answers, 50)),
        "answer mean": float(trace.answers.mean()),
    }


def _peak(times: Floats, window: int) -> float:
    counts = np.bincount((times // window).astype(np.int64))
    return float(counts.max() / counts.mean())
