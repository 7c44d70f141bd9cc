"""What LoRA adapters cost on llama.cpp, which computes with one at a time: the same requests without and with them.

`python -m bench.adapters [--rounds N] [--each N] [--streams N] [--write docs/benchmarks-adapters.md]`
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import ours
from bench.load import body_of, closed_loop
from bench.make_model import SMALL, make_model
from bench.prompts import WORDS
from bench.table import machine
from demo.make_adapter import dice
from llmservice_runtime.contract.adapters import Adapter, adapters_json
from llmservice_runtime.contract.cache import cache_dir

NAMES = ("one", "two")
RANK, CONTEXT, PROMPT_WORDS, ANSWER_TOKENS = 16, 512, 24, 64
CASES = {
    "without adapters": ("bench",),
    "all with one adapter": NAMES[:1],
    "half with each of two": NAMES,
    "a third each: two adapters and the model": ("bench", *NAMES),
}
"""Who is asked, in turn."""
PAGE = """# Adapters on llama.cpp

`make bench-adapters`: {streams} streams of short prompts that share nothing, {tokens} tokens each, {each} one after the
other, on a replica that has two LoRA adapters of rank {rank} loaded on all projections. Random weights, about 200 M
parameters, Q4_K_M, {threads} threads. Times are those of all requests together; medians of {rounds} interleaved
rounds, ratios are medians of the ratios round by round. llama.cpp computes with one adapter at a time, so two of them
share the machine in turns.

{date}, {cpu}.

{table}
"""


def bodies(models: Sequence[str], streams: int, each: int, seed: int) -> list[list[dict[str, object]]]:
    """Prompts of one length, all different; neighbours ask one after the other of `models`."""
    return [
        [
            body_of(_prompt(f"{seed} {stream} {number}"), ANSWER_TOKENS, models[stream % len(models)])
            for number in range(each)
        ]
        for stream in range(streams)
    ]


def _prompt(seed: str) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=PROMPT_WORDS))


def seconds(base: str, models: Sequence[str], streams: int, each: int, seed: int) -> float:
    """From the first request's begin to the last one's end. SystemExit when one was not whole."""
    done = asyncio.run(closed_loop(base, bodies(models, streams, each, seed)))
    if broken := [result.broken for result in done if result.broken]:
        raise SystemExit(f"error: {len(broken)} requests failed: {broken[0]}")
    return max(result.ended for result in done) - min(result.started for result in done)


def main() -> None:
    """Measure, print the page, write it where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds")
    parser.add_argument("--each", type=int, default=3, help="requests of each stream")
    parser.add_argument("--streams", type=int, default=8, help="that run together")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="that compute")
    parser.add_argument("--write", type=Path, help="the page")
    arguments = parser.parse_args()
    model = make_model(cache_dir() / "bench")
    sizes = {
        "hidden_size": SMALL.width, "intermediate_size": SMALL.forward, "num_hidden_layers": SMALL.layers,
        "num_attention_heads": SMALL.heads, "num_key_value_heads": SMALL.kv_heads,
        "head_dim": SMALL.width // SMALL.heads,
    }  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(NAMES):
            dice(Path(folder) / name, rank=RANK, seed=seed, sizes=sizes)
        file = Path(folder) / "adapters.json"
        file.write_text(adapters_json(Adapter(name, f"file://{Path(folder) / name}") for name in NAMES))
        with ours.server(
            model, sequences=2 * arguments.streams, context=CONTEXT, threads=arguments.threads,
            adapters_file=str(file), adapters_private=True, adapter_count=4, adapter_rank=RANK,
        ) as base:  # fmt: skip
            for number in range(arguments.rounds):
                cases = list(enumerate(CASES.items(), len(CASES) * number))
                for seed, (name, models) in cases if number % 2 else reversed(cases):
                    found[name].append(seconds(base, models, arguments.streams, arguments.each, seed))
                    sys.stderr.write(f"round {number + 1}: {name}: {found[name][-1]:.2f} s\n")
    page = PAGE.format(
        streams=arguments.streams, tokens=ANSWER_TOKENS, each=arguments.each, rank=RANK, threads=arguments.threads,
        rounds=arguments.rounds, date=f"{datetime.now(UTC):%Y-%m-%d}", cpu=machine(), table=table(found),
    )  # fmt: skip
    sys.stdout.write(page)
    if arguments.write:
        arguments.write.write_text(page)


def table(found: dict[str, list[float]]) -> str:
    """Seconds of each case, and in parts of the first one's."""
    without = next(iter(found.values()))
    rows = ["| requests | s | of those without |", "|---|---|---|"]
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, without, strict=True))
        rows.append(f"| {name} | {statistics.median(times):.2f} | **{ratio:.2f}** |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
