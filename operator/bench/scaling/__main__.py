"""`make bench-scaling`: policies of scaling on traces of requests, simulated; writes a page and a plot.

Exits 1 when a published table is not reproduced, for nothing that is compared then means what it says.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench.scaling.compare import Case, compare, mean, searched
from bench.scaling.plot import plot
from bench.scaling.published import TIMES, WITHIN, reproduce
from bench.scaling.report import Reproduced, lines_of, page
from bench.scaling.shapes import SHAPES
from bench.scaling.simulate import World
from bench.scaling.trace import Trace, read

HELD_OUT = (501, 502)
COLD_STARTS = (20.0, 90.0, 240.0)
USUAL = 90.0


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="bench-scaling", description=__doc__)
    parser.add_argument("--trace", type=Path, action="append", default=[], help="a public trace, also gzipped; repeat")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(HELD_OUT), help="of the seeded traces")
    parser.add_argument("--cold-start", type=float, nargs="*", default=list(COLD_STARTS), help="seconds")
    parser.add_argument("--search", action="store_true", help="also who knows all arrivals, which takes longest")
    parser.add_argument("--write", type=Path, help="the page; the plot goes beside it")
    args = parser.parse_args()

    traces = [read(path) for path in args.trace]
    reproduced: Reproduced = {trace.name: list(reproduce(trace)) for trace in traces}
    if not _reproduces(reproduced):
        return 1
    public = [_public(trace) for trace in traces]
    held_out = [_held_out(shape, args.seeds, cold) for shape in SHAPES for cold in args.cold_start if args.seeds]
    for case in [*public, *held_out]:
        print(f"\n{case.shape}, cold start {case.cold_start:.0f} s\n", *lines_of(case), sep="\n")
    _write(args, held_out, public, reproduced)
    if args.search:
        public = [_searched(case, trace) for case, trace in zip(public, map(_faster, traces), strict=True)]
        held_out = [_searched(case, SHAPES[case.shape](args.seeds[0])) for case in held_out]
        _write(args, held_out, public, reproduced)
    return 0


def _write(args: argparse.Namespace, held_out: list[Case], public: list[Case], reproduced: Reproduced) -> None:
    shown = held_out or public
    usual = [case for case in shown if case.cold_start == USUAL] or shown[: len(SHAPES)]
    if args.write and usual:
        picture = args.write.with_suffix(".svg")
        picture.write_text(plot(usual))
        args.write.write_text(page(held_out, args.seeds, public, reproduced, picture.name))


def _reproduces(found: Reproduced) -> bool:
    for trace, rows in found.items():
        for name, published, result in rows:
            off = 100 * result.attained - published
            if abs(off) > WITHIN:
                _say(f"{trace}, {name}: {off:+.1f} points off the published table")
                return False
    return True


def _faster(trace: Trace) -> Trace:
    """The bursty ones as published, at three times their rate; Mooncake's prompts are enough as they are."""
    return trace.times_over(TIMES) if trace.name.startswith("azure") else trace


def _public(trace: Trace) -> Case:
    faster = _faster(trace)
    _say(faster.name)
    return mean({0: compare(faster.name, faster, World(cold_start=USUAL))})


def _held_out(shape: str, seeds: list[int], cold_start: float) -> Case:
    _say(f"{shape}, cold start {cold_start:.0f} s")
    return mean({seed: compare(shape, SHAPES[shape](seed), World(cold_start=cold_start)) for seed in seeds})


def _searched(case: Case, trace: Trace) -> Case:
    if case.cold_start != USUAL:
        return case
    _say(f"{trace.name}: who knows all arrivals")
    return searched(case, trace, World(cold_start=case.cold_start))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
