"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One figure; `bound` is what it must keep, `missed` whether it did not."""

    name: str
    value: str
    bound: str = ""
    missed: bool = False


def table(rows: Iterable[Row]) -> str:
    """Markdown."""
    lines = ["| | measured | bound |", "|---|---|---|"]
    lines += [f"| {row.name} | {row.value} | {row.bound}{' **missed**' if row.missed else ''} |" for row in rows]
    return "\n".join(lines)
