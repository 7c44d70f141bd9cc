"""The tables of docs/benchmarks-engines.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from bench.stats import Figures, median_interval, median_ratio
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
        low, high = median_interval([a / b for a, b in zip(our, their, strict=True)])
        texts = form.format(statistics.median(our)), form.format(statistics.median(their))
        cells.append(f"{texts[0]} / {texts[1]} (**{median_ratio(our, their):.2f}**, {low:.2f} to {high:.2f})")
    cells.append(f"{sum(one.broken for one in ours)} / {sum(one.broken for one in theirs)}")
    return "| " + " | ".join(cells) + " |"


def start_line(engine: EngineType, seconds: Mapping[str, Sequence[float]]) -> str:
    """Seconds to ready: ours, and the quickest of the others."""
    ours, *others = (statistics.median(times) for times in seconds.values())
    return f"| {engine.value} | {ours:.1f} | {min(others):.1f} | {ours - min(others):+.1f} |"
