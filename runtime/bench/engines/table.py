"""The tables of docs/benchmarks-engines.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bench.stats import Figures, median_interval
from llmservice_runtime.contract.engines import EngineType

COLUMNS = (("tokens_per_second", 1.0, "{:.1f}"), ("ttft_p50", 1000.0, "{:.0f}"), ("gap_p99", 1000.0, "{:.0f}"))
NAMES = ("engine", "streams", "against", "tokens/s", "TTFT p50 ms", "gap p99 ms", "broken")
HEADER = f"| {' | '.join(NAMES)} |\n|{'---|' * len(NAMES)}"
START_HEADER = "| engine | ours, s | as it comes, s | more, s |\n|---|---|---|---|"


def line(engine: EngineType, streams: int, ours: Sequence[Figures], peer: str, theirs: Sequence[Figures]) -> str:
    """One row: per figure `ours / theirs (ratio, interval)`; then streams that broke."""
    cells = [engine.value, str(streams), f"`{peer}`"]
    for field, scale, form in COLUMNS:
        our, their = ([getattr(figures, field) * scale for figures in side] for side in (ours, theirs))
        texts = form.format(statistics.median(our)), form.format(statistics.median(their))
        cells.append(f"{texts[0]} / {texts[1]} ({_ratio(our, their)})")
    cells.append(f"{sum(one.broken for one in ours)} / {sum(one.broken for one in theirs)}")
    return "| " + " | ".join(cells) + " |"


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """With its interval; of rounds in which both have a figure, which who broke all streams has not."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a > 0 and b > 0]
    if not pairs:
        return "none"
    low, high = median_interval([a / b for a, b in pairs])
    return f"**{statistics.median(a / b for a, b in pairs):.2f}**, {low:.2f} to {high:.2f}"


def start_line(engine: EngineType, seconds: Mapping[str, Sequence[float]]) -> str:
    """Seconds to ready: ours, and the quickest of the others."""
    ours, *others = (statistics.median(times) for times in seconds.values())
    return f"| {engine.value} | {ours:.1f} | {min(others):.1f} | {ours - min(others):+.1f} |"
