"""GPU memory predicted and measured: `python -m bench.gpu [--write docs/benchmarks-gpu.md]`, on a machine with a GPU
that nobody else uses, in ten minutes at most.

vLLM and Transformers serve the demo model and a random one of 1.1 B parameters in bf16 as a plan for this machine says,
and are asked until every sequence has held a whole context. What each line of the plan takes comes from the engine,
what the whole of it takes from the driver.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bench.make_model import LARGE
from bench.memory import Run, files, fill, planned, serving
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.memory import GPU
from llmservice_runtime.engines.registry import label
from llmservice_runtime.machine.probe import nvidia_gpus

MIB = 1 << 20
SECONDS = 600
LEAST = 60
"""What one run takes at least: with less left none is begun."""
ENGINES = (EngineType.TRANSFORMERS, EngineType.VLLM)
HEAD = (
    "| model | engine | weights | cache | engine and its buffers | all, by the driver | weights and engine, measured "
    "/ predicted | tokens/s of one stream | ready, s |\n|---|---|---|---|---|---|---|---|---|"
)
PAGE = """# GPU memory: predicted and measured

`make bench-gpu`, in MiB of GPU memory, *predicted / measured*: what the plan has for a line, and what the engine tells
that it took. vLLM takes what is left of its share of the GPU for its cache, so more than is planned is right there.
*All* is what the driver says that is taken more than before, its own included. The 1.1 B model has random weights in
bf16.

{date}, {gpus}.

{table}
"""


def runs() -> list[Run]:
    """The large model last: where the time is over, the small one has been measured."""
    models = (("demo", None, 1024), ("1.1 B", LARGE, 2048))
    return [Run(name, engine, size, context) for name, size, context in models for engine in ENGINES]


def used() -> int:
    """Bytes of all GPUs that are taken, by whomever."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return sum(int(line) for line in done.stdout.split()) * MIB


def row(run: Run, load: Mapping[str, Any], taken: int) -> str:
    """One line of the table from what /status has of the load; `taken` in bytes."""
    lines = [line for line in load["memory"] if line["where"] == GPU]
    cells = dict.fromkeys(("weights", "cache", "engine"), "")
    predicted = measured = 0
    for line in lines:
        part = next((part for part in cells if part in line["name"].lower()), "engine")
        told = line["measured"]
        cells[part] = f"{_mib(line['predicted'])} / {'?' if told is None else _mib(told)}"
        if part != "cache" and told is not None:
            predicted, measured = predicted + line["predicted"], measured + told
    speed = load["tokens_per_second"]
    ends = (f"{measured / predicted:.2f}" if predicted else "?", "?" if speed is None else f"{speed:.0f}")
    return (
        f"| {' | '.join((run.name, label(run.engine), *cells.values(), _mib(taken), *ends))} | {load['seconds']:.0f} |"
    )


def measure(run: Run, folder: Path) -> str:
    """A row of the table."""
    path, before = files(run, folder), used()
    service, plan, facts = planned(run, path)
    with serving(path, service, plan, facts, 0) as (url, supervisor, _):
        fill(url, plan)
        taken = used() - before
        load = httpx.get(f"{supervisor}/status", timeout=30).json()["load"]
    for finding in load["findings"]:
        print(f"  {finding}", flush=True)
    return row(run, load, taken)


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f}"


def page(rows: Sequence[str], gpus: Sequence[str]) -> str:
    """What is written."""
    return PAGE.format(date=f"{datetime.now(UTC):%Y-%m-%d}", gpus=" and ".join(gpus), table="\n".join((HEAD, *rows)))


def main() -> None:
    """Measure, print, write after every row: what ends it early leaves what was measured."""
    parser = argparse.ArgumentParser(prog="bench.gpu")
    parser.add_argument("--models", type=Path, default=cache_dir() / "bench", help="where the models are made")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="no run begins that could end after these")
    parser.add_argument("--write", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    names = [gpu.product for gpu in nvidia_gpus()]
    if not names:
        raise SystemExit("error: nvidia-smi reports no GPU here\nfix: run it where one is")
    until, rows, longest = time.monotonic() + args.seconds, [], float(LEAST)
    print(HEAD)
    for run in runs():
        began = time.monotonic()
        if began + longest > until:
            print(f"{run.name} on {label(run.engine)}: no time is left for it")
            continue
        rows.append(measure(run, args.models))
        longest = max(longest, time.monotonic() - began)
        print(rows[-1], flush=True)
        if args.write:
            args.write.write_text(page(rows, names))


if __name__ == "__main__":
    main()
