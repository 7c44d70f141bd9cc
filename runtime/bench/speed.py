"""Speed predicted and measured: `python -m bench.speed [--only TEXT]`.

Each engine loads the models of `bench.memory` as a plan for this machine says; beside what memory allows at most stands
what its self-test got for one answer, as status has both. Prints the rows of the table in docs/planning.md.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import httpx

from bench.memory import files, planned, runs, serving
from llmservice_planning.words import per_second
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.engines.registry import label
from llmservice_runtime.machine.memory_speed import cache_bytes, measured
from llmservice_runtime.machine.probe import read_machine


def main() -> int:
    """One run after the other."""
    parser = argparse.ArgumentParser(prog="bench.speed", description=__doc__)
    parser.add_argument("--only", default="", help="models and engines whose names have this text")
    parser.add_argument("--models", type=Path, default=cache_dir() / "bench", help="where the models are made")
    args = parser.parse_args()
    here, caches = read_machine(), cache_bytes()
    here = replace(here, bandwidth=measured(here.cpus, caches, here.memory_available), cache_bytes=caches)
    print(f"{here.cpus} CPUs read {here.bandwidth / 1e9:.1f} GB/s; their caches hold {caches >> 20} MiB.\n")
    print("| model | engine | at most | measured | of it |\n|---|---|---|---|---|")
    for run in runs():
        if run.conversion or args.only not in f"{run.name}, {label(run.engine)}":
            continue
        path = files(run, args.models)
        service, plan, facts = planned(run, path, here)
        with serving(path, service, plan, facts, here.cpus) as (_, supervisor, _):
            while not (load := httpx.get(f"{supervisor}/status", timeout=30).json()["load"]):
                time.sleep(0.5)  # what was loaded is looked at once requests may come
        got, most = load["tokens_per_second"], plan.speed.tokens_per_second
        most_of = (per_second(most), f"{got / most:.0%}") if most else ("-", "-")
        print(f"| {run.name} | {label(run.engine)} | {most_of[0]} | {per_second(got)} | {most_of[1]} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
