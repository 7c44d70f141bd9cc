"""Figures of one run, and ratios of pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.load import StreamResult


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; `share` in 0..1. NaN when there are no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run of one server gave. Times in seconds."""

    tokens_per_second: float
    ttft_p50: float
    ttft_p99: float
    gap_p50: float
    gap_p99: float
    cached_tokens: float
    broken: int


def figures(streams: Sequence[StreamResult], others: Sequence[StreamResult] = ()) -> Figures:
    """Latency over `streams`; throughput over all work: generated tokens per second until the last one ended."""
    whole = [result for result in streams if not result.broken]
    everything = [*streams, *others]
    begin = min(result.started for result in everything)
    end = max(result.ended for result in everything)
    gaps = [gap for result in whole for gap in result.gaps]
    ttfts = [result.ttft for result in whole]
    return Figures(
        tokens_per_second=sum(result.tokens for result in everything) / (end - begin),
        ttft_p50=percentile(ttfts, 0.5),
        ttft_p99=percentile(ttfts, 0.99),
        gap_p50=percentile(gaps, 0.5),
        gap_p99=percentile(gaps, 0.99),
        cached_tokens=statistics.fmean([result.cached_tokens for result in whole] or [0]),
        broken=sum(1 for result in everything if result.broken),
    )


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios pair by pair: what holds when the machine's speed drifts between pairs."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """(low, high) between which the median lies with at least this confidence, whatever the distribution: order
    statistics, by the sign test's binomial. Of few values, the smallest and the largest."""
    ordered, n = sorted(values), len(values)
    missed, drop = 0.0, 0
    while drop < n // 2 and 2 * (missed := missed + math.comb(n, drop) / 2**n) <= 1 - confidence:
        drop += 1
    cut = max(0, drop - 1)
    return ordered[cut], ordered[n - 1 - cut]
