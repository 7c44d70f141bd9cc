"""Memory predicted and measured: `python -m bench.memory [--only TEXT] [--write docs/benchmarks-memory.md]`.

Each engine serves a model as a plan for this machine says, is asked until every sequence holds what the plan has room
for, and what its processes hold is read from /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Any

import httpx

from bench.make_model import LARGE, SMALL, Size, make_checkpoint, make_model
from bench.process import free_port, running
from bench.resident import held
from bench.table import merged
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.models import resolve
from llmservice_cli.places import Places
from llmservice_planning.plan import Plan
from llmservice_planning.planner import make_plan
from llmservice_planning.to_settings import runtime_settings
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.registry import label
from llmservice_runtime.estimate.budget import RESERVE
from llmservice_runtime.machine.machine import Machine
from llmservice_runtime.machine.probe import read_machine

DEMO = Path(__file__).parents[1] / "demo" / "model"
LOAD_SECONDS = 900
MIB = 1 << 20
CONVERSIONS = ("BitsAndBytesInt8", "BitsAndBytesNF4")


@dataclass(frozen=True, slots=True)
class Run:
    """One model on one engine, with a context that this machine's CPUs fill in some minutes."""

    name: str
    engine: EngineType
    size: Size | None
    """None = the demo model."""
    context: int
    args: tuple[str, ...] = ()
    conversion: str = ""


def runs() -> list[Run]:
    """Every model on every engine."""
    found = []
    for engine in EngineType:
        args = ("--max-num-seqs=16",) if engine is EngineType.VLLM else ()
        for name, size, context in (("demo", None, 1024), ("230 M", SMALL, 256), ("1.1 B", LARGE, 128)):
            conversions = ("", *CONVERSIONS) if engine is EngineType.TRANSFORMERS and size else ("",)
            found += [Run(name, engine, size, context, args, to) for to in conversions]
    return found


def files(run: Run, folder: Path) -> Path:
    """What the engine reads; made in `folder` where it is not the demo model."""
    if run.engine is EngineType.LLAMA_CPP:
        return make_model(folder, run.size) if run.size else DEMO / "demo-Q4_K_M.gguf"
    return make_checkpoint(folder, run.size, DEMO) if run.size else DEMO


def planned(run: Run, path: Path, machine: Machine | None = None) -> tuple[LLMService, Plan, Any]:
    """What the operator and `llmservice up` would do with it on this machine."""
    spec: dict[str, Any] = {
        "model": {"uri": f"file://{path}"},
        "contextTokens": run.context,
        "task": "Completion",
        "engine": {"type": run.engine.value, "args": list(run.args)},
    }
    if run.conversion:
        spec["engine"]["loadQuantization"] = run.conversion
    service = LLMService.model_validate({"metadata": {"name": "bench"}, "spec": spec})
    model = resolve(service, DEMO, Places.from_environment())
    plan = make_plan(service.spec, model.facts, _empty(machine or read_machine()), model.files.revision)
    if not isinstance(plan, Plan):
        raise SystemExit(f"error: {path} on {run.engine}: {plan.reason}")
    return service, plan, model.facts


def _empty(machine: Machine) -> Machine:
    """As if nothing else ran there: plans, and so rows, are the same whatever does."""
    return replace(machine, memory_available=machine.memory_bytes)


@contextlib.contextmanager
def serving(path: Path, service: LLMService, plan: Plan, facts: Any, threads: int) -> Iterator[tuple[str, str, int]]:
    """(URL of the engine, URL of the supervisor, pid of the supervisor) of a replica that is ready."""
    port, supervisor_port = free_port(), free_port()
    settings = replace(
        runtime_settings(plan, service, str(path), facts),
        threads=threads,
        load_seconds=LOAD_SECONDS,
        port=port,
        supervisor_port=supervisor_port,
    )
    program, supervisor = Path(sys.executable).with_name("llmservice-runtime"), f"http://127.0.0.1:{supervisor_port}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.json"
        file.write_text(settings.to_json())
        command = [str(program), "serve", "--settings", str(file)]
        with running(command, f"{supervisor}/readyz"):
            pid = int(httpx.get(f"{supervisor}/status", timeout=30).json()["supervisor_pid"])
            yield f"http://127.0.0.1:{port}", supervisor, pid


def fill(url: str, plan: Plan) -> int:
    """Ask for so many answers at a time that the pool is full; tokens that were held together."""
    at_a_time = max(1, min(plan.max_sequences, plan.kv_tokens // plan.context_tokens))
    limit = plan.context_tokens
    sizes: list[int] = []

    def ask(number: int, words: int) -> int:
        # Words of one to three letters: nothing is shared, and many rows of the embeddings are read.
        random = Random(number)
        text = " ".join("".join(random.choices(ascii_lowercase, k=1 + place % 3)) for place in range(words))
        body = {"model": "bench", "prompt": text, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=1800)
        answer.raise_for_status()
        return int(answer.json()["usage"]["total_tokens"])

    per_word = (ask(-1, 60) - 8) / 60
    words = int((limit - 24) / (1.1 * per_word))  # how many tokens a text has differs a little
    threads = [threading.Thread(target=lambda n=n: sizes.append(ask(n, words))) for n in range(at_a_time)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(sizes) < at_a_time:
        raise SystemExit("error: some of the requests failed")
    return sum(sizes)


def measure(run: Run, folder: Path, threads: int, breakdown: bool) -> str:
    """A row of the table."""
    path = files(run, folder)
    service, plan, facts = planned(run, path)
    with serving(path, service, plan, facts, threads) as (url, supervisor, pid):
        told = httpx.get(f"{supervisor}/status", timeout=30).json()
        ready = held(pid)
        tokens = fill(url, plan)
        full = held(pid)
    lines = {line.name: line.bytes for line in plan.memory}
    predicted = sum(size for name, size in lines.items() if name != RESERVE)
    if breakdown:
        print(json.dumps({name: round(size / MIB, 1) for name, size in lines.items()}))
        for one in (ready, full):
            print(*one.describe(), sep="\n")
        print(f"tokens {tokens} of {plan.kv_tokens}, {plan.max_sequences} sequences; {told.get('load', told)}")
    cells = (*title(run), *(_mib(n) for n in (predicted, ready.total, full.total)))
    return f"| {' | '.join(cells)} | {full.total / predicted:.2f} |"


def title(run: Run) -> tuple[str, str]:
    """The first cells of its row."""
    return f"{run.name}{f' made {run.conversion}' if run.conversion else ''}", label(run.engine)


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f}"


PAGE = """# Memory: predicted and measured

`make bench-memory`: each engine serves a model as a plan for this machine says, in MiB of host memory. *Predicted* is
the sum of the plan's lines without its reserve; *ready* is what supervisor and engine processes hold after the
self-test, *full* once every sequence has held a whole context. Files count once, as if no other process had them in
memory. The 230 M and 1.1 B models have random weights (bf16; Q4_K_M for llama.cpp). vLLM with `--max-num-seqs=16`.

{date}, {cpus} CPUs, no GPU. Rows are measured one by one (`--only`), on a machine that may do other things besides.

{table}
"""
HEAD = "| model | engine | predicted | ready | full | full / predicted |\n|---|---|---|---|---|---|"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="bench.memory")
    parser.add_argument("--models", type=Path, default=cache_dir() / "bench", help="where the models are made")
    parser.add_argument("--only", default="", help="rows whose name and engine contain this text")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--breakdown", action="store_true", help="what each process holds")
    parser.add_argument("--write", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    rows = [HEAD]
    print(HEAD)
    for run in runs():
        if args.only in f"{run.name} {run.engine.value} {run.conversion}":
            rows.append(measure(run, args.models, args.threads, args.breakdown))
            print(rows[-1], flush=True)
    if args.write:
        date = f"{datetime.now(UTC):%Y-%m-%d}"
        head, *known = merged(args.write, rows, keys=2)
        order = [" | ".join(title(run)) for run in runs()]
        known.sort(key=lambda row: next((at for at, name in enumerate(order) if row.startswith(f"| {name} |")), 0))
        args.write.write_text(PAGE.format(date=date, cpus=os.cpu_count(), table="\n".join([head, *known])))


if __name__ == "__main__":
    main()
