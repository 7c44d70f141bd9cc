"""`make bench-operator`: times, memory, processor and requests of the operator with many services.

Prints a table; exits 1 when a figure that has a bound misses it (only at full size).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from bench.crowd import OPERATOR, fill, services
from bench.fake_controllers import Controllers
from bench.process import Operator, operator
from bench.table import Row, table
from llmservice_kube.client import WRITES, Client
from llmservice_kube.kinds import CLAIM, CONFIG_MAP, LLM_SERVICE, OWNED
from llmservice_kube.login import login
from llmservice_operator.facts.live import holds

Keys = list[tuple[str, str]]
FULL = 1000
"""Services for which the bounds hold."""
PER_SECOND = 20
SETTLE_SECONDS = 10.0
"""Without any event, before what it costs to do nothing is measured."""


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="bench-operator", description=__doc__)
    parser.add_argument("--services", type=int, default=FULL)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--pods", type=int, default=5000, help="pods that are none of ours")
    parser.add_argument("--changes", type=int, default=600, help=f"spec changes, {PER_SECOND} per second")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    args = parser.parse_args()
    from cluster.api import api_only

    with tempfile.TemporaryDirectory(prefix="bench-operator-") as folder, api_only(Path(folder) / "api") as kubeconfig:
        rows = asyncio.run(_measure(args, kubeconfig, Path(folder)))
    print(table(rows))
    return 1 if args.services >= FULL and any(row.missed for row in rows) else 0


async def _measure(args: argparse.Namespace, kubeconfig: Path, folder: Path) -> list[Row]:
    access = await login(str(kubeconfig))
    async with Client(access) as client:
        _say(f"{args.nodes} nodes, {args.pods} foreign pods, {args.services} services")
        await fill(client, args.nodes, args.pods)
        keys = await services(client, args.services)
        lease = f"--namespace={OPERATOR}"
        async with Controllers(access).running() as controllers:
            async with operator(kubeconfig, folder, lease, name="first") as first:
                rows = await _cold(client, first, controllers, keys)
                rows += await _changes(client, first, controllers, keys[: args.changes])
                rows += await _idle(client, first, keys, args.idle_seconds)
            async with operator(kubeconfig, folder, lease, name="second") as second:
                rows += await _look_again(second, keys)
    return rows


async def _cold(client: Client, process: Operator, controllers: Controllers, keys: Keys) -> list[Row]:
    """From the start of the process to the last child of the last service."""
    _say("cold start")
    began = time.monotonic()
    while len(controllers.deployed) < len(keys):
        await _alive(process)
    seconds = max(at for _, at in controllers.deployed.values()) - began
    await _all_ready(client, process, keys)
    ready = time.monotonic() - began
    cpu, metrics = process.cpu_seconds(), await process.metrics()
    counts = {kind.kind: len((await client.list(kind, labels="llmservice.dev/name")).items) for kind in OWNED}
    assert all(counts[kind.kind] >= len(keys) for kind in OWNED if kind not in (CLAIM, CONFIG_MAP)), counts
    return [
        Row("cold: all children exist", f"{seconds:.1f} s", "< 60 s", seconds >= 60),
        Row("cold: all services Ready", f"{ready:.1f} s, {cpu:.1f} s of CPU"),
        Row(
            "cold: requests per service",
            f"{_requests(metrics) / len(keys):.1f}, {_writes(metrics) / len(keys):.1f} of them writes",
        ),
        Row(
            "cold: requests per reconcile",
            f"{_requests(metrics) / _passes(metrics):.1f} ({_passes(metrics) / len(keys):.1f} reconciles per service)",
        ),
    ]


async def _changes(client: Client, process: Operator, controllers: Controllers, keys: Keys) -> list[Row]:
    """From sending a change of a spec to the changed Deployment in a watch."""
    _say(f"{len(keys)} changes of a spec, {PER_SECOND} per second")
    before, sent, old = await process.metrics(), dict[tuple[str, str], float](), dict(controllers.deployed)
    cpu, began = process.cpu_seconds(), time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number, key in enumerate(keys):
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
            sent[key] = time.monotonic()
            body = {"spec": {"endpoint": {"drainSeconds": 100}}}
            tasks.create_task(client.send("patch", LLM_SERVICE, LLM_SERVICE.path(*key), body=body))
    while any(controllers.deployed[key][0] == old[key][0] for key in keys):
        await _alive(process)
    await _all_ready(client, process, keys)
    cpu = (process.cpu_seconds() - cpu) / len(keys)
    times = sorted(controllers.deployed[key][1] - sent[key] for key in keys)
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, int(len(times) * 0.99))]
    after = await process.metrics()
    requests, writes = _requests(after) - _requests(before), _writes(after) - _writes(before)
    return [
        Row("change to changed Deployment, p99", f"{p99 * 1000:.0f} ms", "< 1000 ms", p99 >= 1),
        Row("change to changed Deployment, p50", f"{p50 * 1000:.0f} ms"),
        Row("requests per change, until Ready", f"{requests / len(keys):.1f}, {writes / len(keys):.1f} of them writes"),
        Row("CPU per change, until Ready", f"{cpu * 1000:.0f} ms"),
    ]


async def _idle(client: Client, process: Operator, keys: Keys, seconds: float) -> list[Row]:
    """What it costs to watch services that nothing happens to."""
    _say("nothing happens")
    await asyncio.sleep(min(SETTLE_SECONDS, seconds))
    before, cpu = await process.metrics(), process.cpu_seconds()
    await asyncio.sleep(seconds)
    share = (process.cpu_seconds() - cpu) / seconds
    after = await process.metrics()
    return [
        Row("CPU between resyncs", f"{share * 100:.2f} % of a core", "< 3 %", share >= 0.03),
        Row("reconciles between resyncs", f"{(_passes(after) - _passes(before)) / seconds:.2f} per s"),
        Row("memory, peak", f"{process.peak_bytes() / 1e6:.0f} MB", "< 250 MB", process.peak_bytes() >= 250e6),
    ]


async def _look_again(process: Operator, keys: Keys) -> list[Row]:
    """A pass over all services with everything read anew, which a restart and every resync do."""
    _say("a pass over all of them")
    await process.until("/readyz", "leading", 120)
    began, cpu = time.monotonic(), process.cpu_seconds()
    while _passes(await process.metrics()) < len(keys):
        await _alive(process)
    seconds, metrics = time.monotonic() - began, await process.metrics()
    writes, peak = _writes(metrics), process.peak_bytes()
    return [
        Row("resync: writes", f"{writes:.0f}", "0", writes > 0),
        Row("resync: time", f"{seconds:.1f} s, {process.cpu_seconds() - cpu:.1f} s of CPU"),
        Row("resync: reads", f"{_requests(metrics) - writes:.0f} requests, pages of lists"),
        Row("memory after a restart, peak", f"{peak / 1e6:.0f} MB", "< 250 MB", peak >= 250e6),
    ]


async def _all_ready(client: Client, process: Operator, keys: Keys) -> None:
    wanted = set(keys)
    while wanted:
        await _alive(process)
        await asyncio.sleep(1.0)
        found = {(o["metadata"]["namespace"], o["metadata"]["name"]): o for o in (await client.list(LLM_SERVICE)).items}
        wanted = {key for key in wanted if not _ready(found[key])}


def _ready(service: dict[str, object]) -> bool:
    metadata, status = service["metadata"], service.get("status", {})
    assert isinstance(metadata, dict) and isinstance(status, dict)
    return holds(service, "Ready") and status["observedGeneration"] == metadata["generation"]


async def _alive(process: Operator) -> None:
    if process.process.poll() is not None:
        raise RuntimeError(f"the operator ended:\n{process.log.read_text()}")
    await asyncio.sleep(0.1)


def _requests(metrics: dict[str, float]) -> float:
    return sum(value for name, value in metrics.items() if name.startswith("llmservice_operator_api_requests_total"))


def _writes(metrics: dict[str, float]) -> float:
    start = "llmservice_operator_api_requests_total"
    return sum(
        value
        for name, value in metrics.items()
        if name.startswith(start) and any(f'verb="{v}"' in name for v in WRITES)
    )


def _passes(metrics: dict[str, float]) -> float:
    return sum(value for name, value in metrics.items() if name.startswith("llmservice_operator_reconciles_total"))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
