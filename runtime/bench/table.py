"""The result table for docs/benchmarks.md."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.stats import Figures, median_ratio

Pair = tuple[Figures, Figures]
"""(ours, theirs) of one interleaved pair."""

COLUMNS = (
    ("tokens/s", "tokens_per_second", 1.0, "{:.0f}"),
    ("TTFT p50 ms", "ttft_p50", 1000.0, "{:.0f}"),
    ("TTFT p99 ms", "ttft_p99", 1000.0, "{:.0f}"),
    ("gap p50 ms", "gap_p50", 1000.0, "{:.0f}"),
    ("gap p99 ms", "gap_p99", 1000.0, "{:.0f}"),
)


def row(name: str, pairs: Sequence[Pair]) -> str:
    """One Markdown row: per figure `ours / theirs (ratio)`, medians over the pairs; then broken streams."""
    cells = [name]
    for _, field, scale, form in COLUMNS:
        ours = [getattr(a, field) * scale for a, _ in pairs]
        theirs = [getattr(b, field) * scale for _, b in pairs]
        texts = form.format(statistics.median(ours)), form.format(statistics.median(theirs))
        cells.append(f"{texts[0]} / {texts[1]} (**{median_ratio(ours, theirs):.2f}**)")
    cells.append(f"{sum(a.broken for a, _ in pairs)} / {sum(b.broken for _, b in pairs)}")
    return "| " + " | ".join(cells) + " |"


def header() -> str:
    """The table's two heading lines."""
    names = ["ours / llama-server (ratio)", *(name for name, *_ in COLUMNS), "broken"]
    return "| " + " | ".join(names) + " |\n|" + "---|" * len(names)


def merged(page: Path, rows: Sequence[str], keys: int) -> list[str]:
    """A table (its heading first) over the same one of a page that was written before, if it was: rows with the same
    first cells (`keys` of them) are replaced, others stay, new ones come last."""
    heading, *new = rows
    _, _, rest = (page.read_text() if page.exists() else "").partition(f"{heading}\n")
    old = itertools.takewhile(lambda line: line.startswith("|"), rest.splitlines())
    return [heading, *{tuple(line.split(" | ")[:keys]): line for line in (*old, *new)}.values()]


def machine() -> str:
    """The processor's name and how many of them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor())}, {os.cpu_count()} CPUs"
