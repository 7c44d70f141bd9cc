"""Run it: `python -m bench.engines [--rounds N] [--engine VLLM] [--write docs/benchmarks-engines.md]`."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench.engines.servers import CONTEXT, SEQUENCES, Server, all_of
from bench.engines.table import HEADER, START_HEADER, line, start_line
from bench.load import closed_loop
from bench.make_model import SMALL, make_checkpoint, make_model
from bench.prompts import WORDS
from bench.stats import Figures, figures
from bench.table import machine, merged
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.contract.engines import EngineType

ANSWER_TOKENS, PROMPT_TOKENS = 24, 48
STREAMS = {1: 2, 4: 1, 16: 1}
"""At a time -> how many each worker asks for, one after the other..."""
QUICK = {EngineType.VLLM: 4}
"""...and how many times as many of an engine that answers so much quicker: a round takes seconds."""
REST_SECONDS = 1.5
"""Between two runs: a worker process of vLLM's looks for work in a loop for a second after its last, with a processor
that whoever is asked next would miss."""
STARTS = 3
ENGINES = (EngineType.VLLM, EngineType.TRANSFORMERS)
"""Whose speed is measured here; llama.cpp's is by `make bench-runtime`."""
PAGE = """# Benchmarks of vLLM and Transformers

`make bench-engines`: each engine as we serve it (`llmservice-runtime serve`) against the same engine as it comes, in
the same environment: `vllm serve` without our plug-ins and surroundings, `transformers serve` with and without its
continuous batching. Random weights, 230 million parameters in float32; {threads} threads, {sequences} sequences,
{context} tokens of context, eager; prompts of {prompt} tokens that share nothing, answers of {answer} tokens, closed
loop. All servers of an engine are loaded at once and asked in turn, {rounds} rounds, first another one in every round,
{rest} s after the one before: a worker of vLLM's own looks for work in a loop for a second after its last.
Figures are medians over the rounds; a ratio is the median of the rounds' ratios (ours / theirs: above 1 is better for
tokens/s, below 1 for times) with the interval that holds it with 95 % or more. What broke is counted in streams. Who
answers one by one is not asked for sixteen answers at a time.

{date}, {machine}. Rows of one engine are of one run (`--engine`); the date is the last one's.

{table}

From the start of the command to ready, {starts} times in turn, medians: our supervisor, the engine below it and its
self-test, against the quickest of the others, which is ready when it answers `/health` (llama.cpp: `llama-server`, the
same model as Q4_K_M):

{start}
"""


def bodies(seed: str, streams: int, each: int, server: Server) -> list[list[dict[str, object]]]:
    """A queue of `each` requests per stream; all prompts differ."""
    chosen = random.Random(seed)
    queues = [[chosen.choices(WORDS, k=PROMPT_TOKENS) for _ in range(each)] for _ in range(streams)]
    common: dict[str, object] = {"model": server.model, "max_tokens": ANSWER_TOKENS, "temperature": 0, "stream": True}
    common["stream_options"] = {"include_usage": True}
    return [[{**common, "prompt": " ".join(words)} for words in queue] for queue in queues]


def ask(server: Server, streams: int, each: int, seed: str) -> Figures:
    """One run of one server."""
    return figures(asyncio.run(closed_loop(server.url, bodies(seed, streams, each, server))))


def rounds_of(servers: Sequence[Server], streams: int, each: int, rounds: int) -> dict[str, list[Figures]]:
    """By server: what it gave in every round."""
    found: dict[str, list[Figures]] = {server.name: [] for server in servers}
    for number in range(rounds):
        first = number % len(servers)
        for server in (*servers[first:], *servers[:first]):
            time.sleep(REST_SECONDS)
            found[server.name].append(ask(server, streams, each, f"{streams} {number}"))
    return found


def starts(engine: EngineType, model: Path, threads: int) -> dict[str, list[float]]:
    """By server: seconds from its command until it says that it is ready."""
    found: dict[str, list[float]] = {}
    for _ in range(STARTS):
        for server in all_of(engine, model, threads):
            began = time.perf_counter()
            with server as one:
                found.setdefault(one.name, []).append(time.perf_counter() - began)
    return found


def models(folder: Path) -> dict[EngineType, Path]:
    """What each engine serves, of one size."""
    weights = make_checkpoint(folder, SMALL, dtype="F32")
    return {engine: make_model(folder, SMALL) if engine is EngineType.LLAMA_CPP else weights for engine in EngineType}


def main() -> None:
    """Print (and write) the tables."""
    parser = argparse.ArgumentParser(prog="bench.engines")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--engine", choices=[engine.value for engine in EngineType], action="append")
    parser.add_argument("--write", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: it was ended"))  # with the servers that it began
    threads = len(os.sched_getaffinity(0))
    served = models(cache_dir() / "bench")
    asked = [EngineType(name) for name in args.engine or EngineType]
    table, start = [HEADER], [START_HEADER]

    def tell(*lines: str) -> None:
        print(*lines, sep="\n", flush=True)
        if args.write:
            args.write.write_text(
                page(merged(args.write, table, 3), merged(args.write, start, 1), args.rounds, threads)
            )

    print(START_HEADER, flush=True)
    for engine in asked:
        start.append(start_line(engine, starts(engine, served[engine], threads)))
        tell(start[-1])
    print(HEADER, flush=True)
    for engine in ENGINES:
        if engine not in asked:
            continue
        with ExitStack() as stack:
            servers = [stack.enter_context(server) for server in all_of(engine, served[engine], threads)]
            for server in servers:
                ask(server, 4, 1, "warm")
            for streams, each in STREAMS.items():
                fit = [server for server in servers if server.together or streams < max(STREAMS)]
                found = rounds_of(fit, streams, each * QUICK.get(engine, 1), args.rounds)
                ours = found[fit[0].name]
                lines = [line(engine, streams, ours, peer.name, found[peer.name]) for peer in fit[1:]]
                table += lines
                tell(*lines)


def page(table: Sequence[str], start: Sequence[str], rounds: int, threads: int) -> str:
    """What is written; also of a part of the rows."""
    return PAGE.format(
        threads=threads,
        sequences=SEQUENCES,
        context=CONTEXT,
        prompt=PROMPT_TOKENS,
        answer=ANSWER_TOKENS,
        rounds=rounds,
        rest=REST_SECONDS,
        starts=STARTS,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=machine(),
        table="\n".join(table),
        start="\n".join(start),
    )


if __name__ == "__main__":
    main()
