"""A trace: when requests came, and how long they and their answers were."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
JITTER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Trace:
    """Sorted by time; the first request comes at 0. Lengths in tokens, at least 1."""

    name: str
    times: Floats
    prompts: Ints
    answers: Ints

    @property
    def rate(self) -> float:
        """Requests per second, the mean."""
        return len(self.times) / float(self.times[-1])

    def times_over(self, factor: int, seed: int = 1) -> Trace:
        """At a multiple of its rate: every arrival again within 2 s, with lengths drawn from all."""
        rng = np.random.default_rng(seed)
        parts = [(self.times, self.prompts, self.answers)]
        for _ in range(factor - 1):
            drawn = rng.integers(0, len(self.times), len(self.times))
            later = self.times + rng.uniform(0, JITTER_SECONDS, len(self.times))
            parts.append((later, self.prompts[drawn], self.answers[drawn]))
        times, prompts, answers = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return made(f"{self.name} ×{factor}" if factor > 1 else self.name, times, prompts, answers)


def made(name: str, times: Floats, prompts: Ints, answers: Ints) -> Trace:
    """In order, from 0."""
    order = np.argsort(times)
    at_least_one = (np.maximum(1, lengths[order]).astype(np.int64) for lengths in (prompts, answers))
    return Trace(name, (times - times.min())[order], *at_least_one)


def read(path: Path) -> Trace:
    """Azure's (CSV: TIMESTAMP, ContextTokens, GeneratedTokens) or Mooncake's (JSON lines), also gzipped."""
    name = path.name.removesuffix(".gz")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        rows = _mooncake(lines) if name.endswith(".jsonl") else _azure(lines)
    if not rows:
        raise SystemExit(f"{path}: no requests in it")
    times, prompts, answers = np.array(rows, dtype=np.float64).T
    return made(name.rpartition(".")[0], times, prompts.astype(np.int64), answers.astype(np.int64))


def _azure(lines: TextIO) -> list[tuple[float, int, int]]:
    return [
        (
            datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp(),
            int(row["ContextTokens"]),
            int(row["GeneratedTokens"]),
        )
        for row in csv.DictReader(lines)
    ]


def _mooncake(lines: TextIO) -> list[tuple[float, int, int]]:
    rows = map(json.loads, lines)
    return [(row["timestamp"] / 1000, row["input_length"], row["output_length"]) for row in rows]
