"""`make bench-gateway`: what a proxy costs for each chunk of a stream, ours beside a plain one of aiohttp, in one run.

Each proxy is a process of its own, in front of the same scripted engine; its CPU is the kernel's count. `--write FILE`
puts the table into that page. `--other NAME=PORT=PID` is a proxy that you started, in front of `--engine-port`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.page import write

CHUNKS = 100
LEAST_APART = 0.9
PAUSE = 0.02
"""Seconds between chunks: an engine that decodes at 50 tokens a second."""
BODY = b'{"model": "bench", "stream": true, "messages": [{"role": "user", "content": "Say something long."}]}'
ROLES = ("engine", "ours", "aiohttp", "aiohttp-uvloop")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one proxy. `cpu`: seconds for each chunk; `first`: to the first byte, sorted; `memory`: peak bytes.

    `apart`: share of chunks that came by themselves. A proxy that waits for a processor passes several on at once,
    which is cheaper: where this is not near 1, the machine had too much else to do, and its figure says little.
    """

    cpu: float
    first: list[float]
    lost: int
    memory: int
    apart: float


async def stream(host: str, port: int) -> tuple[float, bool, int]:
    """One request: seconds to its first event, whether all came, and in how many pieces."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    )
    first, events, end, pieces = 0.0, 0, b"", 0
    while not end.endswith(b"\r\n0\r\n\r\n") and (data := await reader.read(65536)):
        found = data.count(b'"choices"')
        if found and not first:
            first = time.perf_counter() - began
        events += found
        pieces += found > 0
        end = (end + data)[-64:]
    writer.close()
    return first, events == CHUNKS and b"[DONE]" in end, pieces


async def load(port: int, together: int, rounds: int) -> tuple[list[float], int, float]:
    """So many streams at a time; seconds to first bytes, streams that broke, share of chunks that came apart."""

    async def one(number: int) -> list[tuple[float, bool, int]]:
        await asyncio.sleep(PAUSE * CHUNKS / 4 * number / together)
        return [await stream("127.0.0.1", port) for _ in range(rounds)]

    results = [each for row in await asyncio.gather(*(one(number) for number in range(together))) for each in row]
    apart = sum(pieces for _, _, pieces in results) / (CHUNKS * len(results))
    return sorted(first for first, _, _ in results), sum(not whole for _, whole, _ in results), apart


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> int:
    """Bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@contextmanager
def process(role: str, engine_port: int = 0) -> Iterator[tuple[int, int]]:
    """(pid, port) of one of ROLES."""
    command = [sys.executable, "-m", "bench.gateway_roles", role, str(engine_port)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child.pid, int(child.stdout.readline())
    finally:
        child.terminate()
        child.wait()


def measure(pid: int, port: int, together: int, rounds: int) -> Figures:
    """A round to warm up, then what counts."""
    asyncio.run(load(port, together, 1))
    before = cpu_seconds(pid)
    first, lost, apart = asyncio.run(load(port, together, rounds))
    return Figures((cpu_seconds(pid) - before) / (together * rounds * CHUNKS), first, lost, peak_memory(pid), apart)


def main() -> int:
    """Exit code: 1 when ours is dearer than promised, or loses a stream; 2 when the machine had too much else to do."""
    parser = argparse.ArgumentParser(prog="bench-gateway", description=__doc__)
    parser.add_argument("--streams", type=int, default=100, help="at a time")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--share", type=float, default=0.65, help="of aiohttp's CPU per chunk that ours may take")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=PORT=PID")
    parser.add_argument("--engine-port", type=int, default=0)
    parser.add_argument("--write", type=Path, help="page that gets the table")
    args = parser.parse_args()
    found: dict[str, Figures] = {}
    with process("engine", args.engine_port) as (_, engine):
        direct, _, _ = asyncio.run(load(engine, args.streams, 1))
        for role in ("aiohttp", "aiohttp-uvloop", "ours"):
            with process(role, engine) as (pid, port):
                found[role] = measure(pid, port, args.streams, args.rounds)
        for other in args.other:
            name, port, pid = other.split("=")
            found[name] = measure(int(pid), int(port), args.streams, args.rounds)
    plain, ours = found["aiohttp"], found["ours"]
    lines = [
        f"{args.streams} streams at a time, {args.streams * args.rounds} in all, {CHUNKS} chunks each, "
        f"{1 / PAUSE:.0f} a second.",
        f"Without a proxy the first byte takes {_ms(direct, 0.5)} (p50), {_ms(direct, 0.99)} (p99).",
        "",
        "| | CPU per chunk | against aiohttp | chunks that came apart | first byte p50 | p99 | peak memory | lost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, figures in found.items():
        lines.append(
            f"| {name} | {figures.cpu * 1e6:.1f} us | {figures.cpu / plain.cpu:.2f} | {figures.apart:.0%} | "
            f"{_ms(figures.first, 0.5)} | "
            f"{_ms(figures.first, 0.99)} | {figures.memory >> 20} MiB | {figures.lost} |"
        )
    print("\n".join(lines))
    if args.write:
        write(args.write, "gateway", "\n".join(lines))
    if not ours.lost and min(ours.apart, plain.apart) < LEAST_APART:
        return 2
    return 1 if ours.lost or ours.cpu > args.share * plain.cpu else 0


def _ms(values: list[float], share: float) -> str:
    return f"{values[min(len(values) - 1, int(share * len(values)))] * 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
