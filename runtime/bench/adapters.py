"""What LoRA adapters cost on llama.cpp, which computes with one at a time: the same requests without and with them.

`python -m bench.adapters [--rounds N] [--each N] [--streams N] [--write docs/benchmarks-adapters.md]`
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bench import ours, peer
from bench.load import body_of, closed_loop
from bench.make_model import SMALL, make_model
from bench.prompts import WORDS
from bench.stats import figures, median_ratio
from bench.table import machine
from demo.make_adapter import dice
from llmservice_runtime.batching.turns import TURN_SECONDS
from llmservice_runtime.contract.adapters import Adapter, adapters_json
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.engines.llamacpp.serve.peft import Base, as_gguf

BASE = "bench"
NAMES = ("one", "two")
OURS, PEER = "ours", "llama-server"
RANK, CONTEXT, PROMPT_WORDS, ANSWER_TOKENS = 16, 512, 24, 64
CASES = {
    "without adapters": (BASE,),
    "all with one adapter": NAMES[:1],
    "half with each of two": NAMES,
    "a third each: two adapters and the model": (BASE, *NAMES),
}
"""Who is asked, in turn."""
BOUNDS = {"all with one adapter": "1.1", "half with each of two": "1.6"}
"""What ours are meant to take at most, of those without."""
PAGE = """# Adapters on llama.cpp

`make bench-adapters`: {streams} streams of short prompts that share nothing, {tokens} tokens each, {each} one after the
other, on a replica that has two LoRA adapters of rank {rank} loaded on all projections, and on `llama-server -np
{slots}` (llama.cpp of the same release and flags) with the same two. Random weights, about 200 M parameters, Q4_K_M,
{threads} threads, both servers loaded at once. Seconds are those of all requests together; medians of {rounds}
interleaved rounds, ratios are medians of the ratios round by round. First token and gap are 99th percentiles.

llama.cpp adds an adapter as four more operations for each projection, which a server can't make cheaper, and computes
with one adapter at a time: two of them share the machine in turns. Ours are of {turn:.0f} ms; llama-server computes one
adapter's streams for as long as they last, and the other's wait.

{date}, {cpu}.

{table}
"""

Ask = Callable[[str, str], dict[str, Any]]
"""prompt, who is asked -> the body that asks a server."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one case: all requests together, in seconds, and the 99th percentiles of what their clients notice."""

    seconds: float
    first: float
    gap: float


def ask_ours(prompt: str, model: str) -> dict[str, Any]:
    """Our replica takes an adapter's name."""
    return body_of(prompt, ANSWER_TOKENS, model)


def ask_peer(prompt: str, model: str) -> dict[str, Any]:
    """llama-server takes its number."""
    lora = [{"id": NAMES.index(model), "scale": 1.0}] if model in NAMES else []
    return {**body_of(prompt, ANSWER_TOKENS, BASE), "lora": lora}


def bodies(ask: Ask, models: Sequence[str], streams: int, each: int, seed: int) -> list[list[dict[str, Any]]]:
    """Prompts of one length, all different; neighbours ask one after the other of `models`."""
    return [
        [ask(_prompt(f"{seed} {stream} {number}"), models[stream % len(models)]) for number in range(each)]
        for stream in range(streams)
    ]


def _prompt(seed: str) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=PROMPT_WORDS))


def cost(base: str, queues: Sequence[Sequence[dict[str, Any]]]) -> Cost:
    """From the first request's begin to the last one's end. SystemExit when one was not whole."""
    done = asyncio.run(closed_loop(base, queues))
    if broken := [result.broken for result in done if result.broken]:
        raise SystemExit(f"error: {len(broken)} requests failed: {broken[0]}")
    seconds = max(result.ended for result in done) - min(result.started for result in done)
    found = figures(done)
    return Cost(seconds, found.ttft_p99, found.gap_p99)


def check(base: str, ask: Ask) -> None:
    """SystemExit where an adapter changes nothing, which would cost nothing."""
    asked = [{**ask(_prompt("check"), model), "stream": False, "stream_options": None} for model in (BASE, *NAMES)]
    said = {httpx.post(f"{base}/v1/completions", json=body, timeout=60).json()["choices"][0]["text"] for body in asked}
    if len(said) < len(asked):
        raise SystemExit(f"error: {base} answers alike with and without an adapter")


def make_adapters(folder: Path) -> list[Path]:
    """Both, as PEFT saves them in folders of their names; and as GGUF, whose paths these are."""
    sizes = {
        "hidden_size": SMALL.width, "intermediate_size": SMALL.forward, "num_hidden_layers": SMALL.layers,
        "num_attention_heads": SMALL.heads, "num_key_value_heads": SMALL.kv_heads,
        "head_dim": SMALL.width // SMALL.heads,
    }  # fmt: skip
    files = []
    for seed, name in enumerate(NAMES):
        made = dice(folder / name, rank=RANK, seed=seed, sizes=sizes)
        files.append(folder / f"{name}.gguf")
        files[-1].write_bytes(b"".join(as_gguf(made, Base("llama", SMALL.heads, SMALL.kv_heads))))
    return files


def measured(servers: dict[str, tuple[str, Ask]], rounds: int, each: int, streams: int) -> dict[str, list[Cost]]:
    """Every case on every server, `rounds` times, in an order that changes."""
    found: dict[str, list[Cost]] = {f"{who}: {name}": [] for who in servers for name in CASES}
    for number in range(rounds):
        cases = [(who, case) for case in enumerate(CASES.items(), len(CASES) * number) for who in servers]
        for who, (seed, (name, models)) in cases if number % 2 else reversed(cases):
            base, ask = servers[who]
            took = cost(base, bodies(ask, models, streams, each, seed))
            found[f"{who}: {name}"].append(took)
            sys.stderr.write(f"round {number + 1}: {who}: {name}: {took.seconds:.2f} s\n")
    return found


def main() -> None:
    """Measure, print the page, write it where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--each", type=int, default=3, help="requests of each stream")
    parser.add_argument("--streams", type=int, default=8, help="that run together")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="that compute")
    parser.add_argument("--write", type=Path, help="the page")
    arguments = parser.parse_args()
    streams, threads, cache = arguments.streams, arguments.threads, cache_dir() / "bench"
    model, binary, slots = make_model(cache), peer.build(cache), 2 * streams
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory()))
        files = make_adapters(folder)
        file = folder / "adapters.json"
        file.write_text(adapters_json(Adapter(name, f"file://{folder / name}") for name in NAMES))
        replica = ours.server(
            model, sequences=slots, context=CONTEXT, threads=threads,
            adapters_file=str(file), adapters_private=True, adapter_count=4, adapter_rank=RANK,
        )  # fmt: skip
        theirs = peer.server(binary, model, slots=slots, context=CONTEXT, threads=threads, adapters=files)
        servers: dict[str, tuple[str, Ask]] = {
            OURS: (enter(replica), ask_ours),
            PEER: (enter(theirs), ask_peer),
        }
        for base, ask in servers.values():
            check(base, ask)
        found = measured(servers, arguments.rounds, arguments.each, streams)
    page = PAGE.format(
        streams=streams, tokens=ANSWER_TOKENS, each=arguments.each, rank=RANK, threads=threads, slots=slots,
        rounds=arguments.rounds, turn=TURN_SECONDS * 1000, date=f"{datetime.now(UTC):%Y-%m-%d}", cpu=machine(),
        table=table(found),
    )  # fmt: skip
    sys.stdout.write(page)
    if arguments.write:
        arguments.write.write_text(page)


def table(found: dict[str, list[Cost]]) -> str:
    """A row for each server and case: seconds, in parts of those without adapters, and what clients notice."""
    rows = [
        "| server | requests | s | of those without | at most | first token ms | gap ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for who in (OURS, PEER):
        without = [each.seconds for each in found[f"{who}: {next(iter(CASES))}"]]
        for name in CASES:
            took = found[f"{who}: {name}"]
            seconds, firsts, gaps = zip(*((each.seconds, each.first, each.gap) for each in took), strict=True)
            bound = BOUNDS.get(name, "") if who == OURS else ""
            took_all, ratio = f"{statistics.median(seconds):.2f}", f"**{median_ratio(seconds, without):.2f}**"
            noticed = [f"{statistics.median(times) * 1000:.0f}" for times in (firsts, gaps)]
            rows.append(f"| {' | '.join((who, name, took_all, ratio, bound, *noticed))} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
