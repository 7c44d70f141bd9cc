"""`make bench-gateway`: what a proxy costs for each chunk of a stream and adds to its first byte, and slow streams.

Ours beside a plain one of aiohttp and those of others (rivals.py), one after the other, each a process of its own in
front of the same scripted engine. `--write FILE` puts the tables into that page.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.gateway.clients import SIP_BYTES, SIPS, decoding, slow
from bench.gateway.figures import Decoding, Slow, first, lost, of_decoding, of_slow
from bench.gateway.paces import CHAT, DECODING, LARGE, PROTOCOLS, SLOW, Protocol
from bench.gateway.processes import NotServingError, cpu_seconds, many_files, peak_memory, proxy, role
from bench.page import write
from cluster.console import ClusterError
from llmservice_gateway.loop import new_event_loop
from llmservice_runtime.contract.errors import UserError

T = TypeVar("T")
Found = TypeVar("Found", Decoding, Slow)
OURS = {"ours": CHAT, **{f"ours: {name}": protocol for name, protocol in PROTOCOLS.items()}}
ALL = ("aiohttp", "aiohttp-uvloop", "splice", *OURS, "HAProxy", "vllm-router", "LiteLLM")
LEAST_APART = 0.9
ADDED_SECONDS = 0.005
"""That ours may add to the first byte, at the 99th percentile."""
TRANSLATING_SECONDS = 30e-6
"""CPU that another protocol may add to each chunk."""


def main() -> int:
    """Exit code: 1 when ours is dearer than promised, or loses a stream; 2 when the machine had too much else to do."""
    parser = argparse.ArgumentParser(prog="bench-gateway", description=__doc__)
    parser.add_argument("--streams", type=int, default=100, help="at a time")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--slow", type=int, default=2000, help="slow streams at a time; 0: none")
    parser.add_argument("--sippers", type=int, default=100, help="of them that are read slowly, beside the others")
    parser.add_argument("--share", type=float, default=0.65, help="of aiohttp's CPU per chunk that ours may take")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(ALL), help="of " + ",".join(ALL))
    parser.add_argument("--write", type=Path, help="page that gets the tables")
    args = parser.parse_args()
    many_files(2 * (args.slow + args.sippers) + args.streams + 1000)
    with role("engine") as (_, engine):
        direct = _run(decoding(engine, args.streams, args.rounds))
        figures = {
            name: of_proxy(name, engine, partial(_decoding, args.streams, args.rounds, OURS.get(name, CHAT)))
            for name in args.only
        }
        slows = {
            name: of_proxy(name, engine, lambda pid, port: _slow(pid, port, args.slow, args.sippers))
            for name, one in figures.items()
            if args.slow and isinstance(one, Decoding) and name not in {"aiohttp-uvloop", "splice", *OURS} - {"ours"}
        }
    lines = [
        f"{args.streams} streams at a time, {args.streams * args.rounds} in all, {DECODING.chunks} chunks each, "
        f"{1 / DECODING.apart:.0f} a second; a stream that ends is followed by another.",
        f"Without a proxy the first byte takes {first(direct, 0.5) * 1000:.1f} ms (p50), "
        f"{first(direct, 0.99) * 1000:.1f} ms (p99).",
        "",
        *of_decoding(figures, direct),
    ]
    if slows:
        lines += [
            "",
            f"{args.slow:,} streams at the same time, {SLOW.chunks} chunks each, one every {SLOW.apart:.0f} s, and "
            f"{args.sippers} of {LARGE.chunks * LARGE.size / 1e6:.0f} MB, which comes as fast as it is taken: "
            f"{SIP_BYTES >> 10} KiB a second for {SIPS} s, then the rest.",
            "",
            *of_slow(slows),
        ]
    print("\n".join(lines))
    if args.write:
        write(args.write, "gateway", "\n".join(lines))
    return _verdict(figures, slows, args.share, direct_p99=first(direct, 0.99))


def _verdict(
    figures: dict[str, Decoding | str], slows: dict[str, Slow | str], share: float, *, direct_p99: float
) -> int:
    ours, plain, router = (figures.get(name) for name in ("ours", "aiohttp", "vllm-router"))
    if (
        not isinstance(ours, Decoding)
        or ours.lost
        or any(lost(one.seen) for name, one in slows.items() if name == "ours" and isinstance(one, Slow))
    ):
        return 1
    bounds = [one.cpu * part for one, part in ((plain, share), (router, 1.0)) if isinstance(one, Decoding)]
    if min([ours.apart, *(one.apart for one in (plain, router) if isinstance(one, Decoding))]) < LEAST_APART:
        return 2
    translated = [one for name, one in figures.items() if name in OURS and isinstance(one, Decoding)]
    dear = any(one.cpu - ours.cpu > TRANSLATING_SECONDS or one.lost for one in translated)
    missed = dear or any(ours.cpu > bound for bound in bounds) or first(ours.seen, 0.99) - direct_p99 > ADDED_SECONDS
    return 1 if missed else 0


def of_proxy(name: str, engine: int, measure: Callable[[int, int], Found]) -> Found | str:
    """A figure, or why there is none: what can't be had is said to be that."""
    print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
    try:
        with proxy("ours" if name in OURS else name, engine) as (pid, port):
            found = measure(pid, port)
            print(f"  {found}", file=sys.stderr, flush=True)
            return found
    except (UserError, ClusterError, NotServingError, OSError, subprocess.SubprocessError) as error:
        return " ".join(str(error).split()).replace("|", "/")[:300]


def _decoding(together: int, rounds: int, protocol: Protocol, pid: int, port: int) -> Decoding:
    """A round to warm up, then what counts."""
    pace = replace(DECODING, protocol=protocol)
    _run(decoding(port, together, 1, pace))
    before = cpu_seconds(pid)
    seen = _run(decoding(port, together, rounds, pace))
    cpu = cpu_seconds(pid) - before
    return Decoding(cpu / sum(each.pace.chunks for each in seen), seen, peak_memory(pid))


def _slow(pid: int, port: int, streams: int, sippers: int) -> Slow:
    before = cpu_seconds(pid)
    seen = _run(slow(port, streams, sippers))
    return Slow(cpu_seconds(pid) - before, seen, peak_memory(pid))


def _run(what: Coroutine[None, None, T]) -> T:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(what)


if __name__ == "__main__":
    sys.exit(main())
