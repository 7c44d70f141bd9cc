"""What open consoles cost the gateway: `make bench-console`.

A gateway of 20 services, all of which change every second, and consoles that ask as the page does: services and one
service in full every 2 s, its history every 5 s, over connections that stay. No request is served meanwhile, so all
that the gateway computes is for them. `--write FILE` puts the table into that page.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from bench.gateway.processes import cpu_seconds
from bench.page import write
from bench.table import Row, table
from llmservice_gateway.app import Gateway
from llmservice_gateway.console.facts import Json, NoFacts
from llmservice_gateway.loop import new_event_loop
from llmservice_gateway.routing import Backend, Replica, Table
from llmservice_runtime.wire.server import ApiRunner

SERVICES = 20
PLACE = "console"
SUMMARY_SECONDS, HISTORY_SECONDS = 2.0, 5.0
MOST_OF_A_CORE = {1: 1.0, 50: 5.0}
"""Consoles -> percent."""
FIRST_VIEW_SECONDS = 1.0


class Busy(NoFacts):
    """A service as a cluster has it, in a usual size."""

    def object(self, service: str) -> Json:
        """Another one each second."""
        condition = {"status": "True", "reason": "Ready", "message": f"{time.time():.0f} of 1 replicas serve requests."}
        kinds = ("Ready", "Available", "Progressing", "SpecValid", "ModelResolved", "Planned", "Cached", "Scheduled")
        memory = [{"name": f"line {n}", "where": "GPU", "planned": "1234Mi", "measured": "1200Mi"} for n in range(8)]
        return {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"namespace": "apps", "name": service.partition("/")[2]},
            "spec": {"model": {"uri": "hf://owner/name"}, "replicas": 1},
            "status": {
                "conditions": [{"type": kind, **condition} for kind in kinds],
                "plan": {"engine": "VLLM", "reason": "It is the fastest.", "memory": memory, "notes": ["A note."] * 4},
                "load": {"milliseconds": 30_000, "memory": memory},
            },
        }

    def wanted(self, service: str) -> int:
        """One."""
        return 1


async def serve() -> None:
    """Print the port, and serve until it is ended."""
    gc.freeze()
    made = Gateway(console=True)
    assert made.console is not None
    made.console.facts = Busy()
    runner = ApiRunner(made.application(), access_log=None, handler_cancellation=True)
    await runner.setup()
    site = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0)  # type: ignore[arg-type]
    print(site.sockets[0].getsockname()[1], flush=True)
    while True:
        names = [f"demo-{n}" for n in range(SERVICES)]
        made.proxy.publish(Table({f"apps/{name}": _backend(name) for name in names}))
        await asyncio.sleep(1)


def _backend(name: str) -> Backend:
    return Backend("apps", name, (Replica(f"{name}-0", "http://127.0.0.1:9"),))


async def console(url: str, seconds: float) -> None:
    """One page that is open for so long. It begins at any moment."""
    async with aiohttp.ClientSession(headers={"Accept-Encoding": "gzip"}) as session:
        end = time.monotonic() + seconds
        await asyncio.sleep(random.random() * SUMMARY_SECONDS)
        await asyncio.gather(
            _poll(session, f"{url}/-/api/services", SUMMARY_SECONDS, end),
            _poll(session, f"{url}/-/api/services/apps/demo-1", SUMMARY_SECONDS, end),
            _poll(session, f"{url}/-/api/services/apps/demo-1/history", HISTORY_SECONDS, end),
        )


async def _poll(session: aiohttp.ClientSession, url: str, every: float, end: float) -> None:
    tag, since = "", 0
    while time.monotonic() < end:
        async with session.get(f"{url}?since={since}", headers={"If-None-Match": tag}) as response:
            response.raise_for_status() if response.status != 304 else None
            body: Any = await response.json() if response.status == 200 else {}
            tag, at = response.headers.get("ETag", ""), (body.get("columns") or {}).get("at") or [since]
            since = at[-1]
        await asyncio.sleep(every)


async def first_view(url: str) -> float:
    """Seconds until everything is there that a browser loads first: the page, its files, and the services."""
    began = time.monotonic()
    async with aiohttp.ClientSession(headers={"Accept-Encoding": "gzip"}) as session:
        async with session.get(url, headers={"Accept": "text/html"}) as response:
            page = await response.text()
        seen, ahead = set[str](), set(re.findall(r'(?:src|href)="(/-/[^"]+)"', page))
        while ahead:
            texts = await asyncio.gather(*(_text(session, url + path) for path in ahead))
            seen |= ahead
            found = {_beside(path, to) for path, text in zip(ahead, texts, strict=True) for to in _imports(text)}
            ahead = found - seen
        await _text(session, f"{url}/-/api/services")
    return time.monotonic() - began


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as response:
        response.raise_for_status()
        return (await response.read()).decode(errors="replace")


def _imports(text: str) -> list[str]:
    return re.findall(r'(?:from|import)\s*"(\.{1,2}/[^"]+\.js)"', text)


def _beside(path: str, to: str) -> str:
    parts = path.split("/")[:-1]
    for part in to.split("/"):
        parts = parts[:-1] if part == ".." else parts if part == "." else [*parts, part]
    return "/".join(parts)


async def measure(pid: int, url: str, count: int, seconds: float) -> float:
    """Percent of a core that the gateway takes with so many consoles."""
    consoles = [asyncio.create_task(console(url, seconds + SUMMARY_SECONDS)) for _ in range(count)]
    await asyncio.sleep(SUMMARY_SECONDS)
    before, began = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    taken = (cpu_seconds(pid) - before) / (time.monotonic() - began)
    await asyncio.gather(*consoles)
    return 100 * taken


async def run(pid: int, url: str, counts: Sequence[int], seconds: float) -> str:
    """The table."""
    views = [await first_view(url) for _ in range(5)]
    idle = await measure(pid, url, 0, seconds)
    rows = [Row("no console: a row of history every 5 s", f"{idle:.2f} % of a core")]
    for count in counts:
        taken, most = await measure(pid, url, count, seconds) - idle, MOST_OF_A_CORE.get(count)
        name = f"{count} open console{'s' if count > 1 else ''}, beyond that"
        bound = f"< {most:.0f} %" if most else ""
        rows.append(Row(name, f"{taken:.2f} % of a core", bound, most is not None and taken >= most))
    first = sorted(views)[len(views) // 2]
    rows.append(
        Row("all that a first view loads, one file after another imports it", f"{1000 * first:.0f} ms",
            f"< {FIRST_VIEW_SECONDS:.0f} s", first >= FIRST_VIEW_SECONDS)
    )  # fmt: skip
    return table(rows)


def main() -> int:
    """0 when measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.console", description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--consoles", type=int, nargs="*", default=[1, 50])
    parser.add_argument("--seconds", type=float, default=30.0, help="for each number of consoles")
    parser.add_argument("--write", type=Path, help="page that gets the table")
    args = parser.parse_args()
    if args.serve:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve())
        return 0
    child = subprocess.Popen([sys.executable, "-m", "bench.console", "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}"
        told = asyncio.run(run(child.pid, url, args.consoles, args.seconds))
    finally:
        child.terminate()
        child.wait()
    print(told)
    if args.write is not None:
        write(args.write, PLACE, told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
