"""Run the benchmark: `python -m bench [--pairs N] [--only TEXT] [--write docs/benchmarks.md]`."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx

from bench import ours, peer
from bench.make_model import make_model
from bench.scenarios import Scenario, all_scenarios
from bench.stats import Figures
from bench.table import Pair, header, machine, row
from llmservice_runtime.contract.cache import cache_dir

PAGE = """# Benchmarks

`make bench-runtime`: our runtime (`llmservice-runtime serve`, {sequences} sequences) against `llama-server -np {slots}`
built from the llama.cpp source inside the same llama-cpp-python release with the same CPU flags. Same GGUF (random
weights, about 200 M parameters, Q4_K_M), same {threads} threads, {context} tokens of context per request, both servers
loaded at once, {pairs} interleaved pairs per line. Figures are medians over the pairs; the ratio is the median of the
ratios pair by pair (ours / theirs: above 1 is better for tokens/s, below 1 for times).

- (a) closed loop, short prompts that share nothing, 64 tokens each
- (b) the same while 2,000-token prompts arrive every 5 s; times are those of the running streams, tokens/s counts all
- (c) 12 requests with one 1,000-token prefix and different endings, 4 at a time, after one that filled the cache

{date}, {cpu}.

{table}
"""

SLOTS = 16
SEQUENCES = 32
CONTEXT = 2304
"""Tokens per llama-server slot and per request of ours: a 2,000-token prompt and its answer."""


def counter(base: str) -> Callable[[str], int]:
    """Tokens of a text, by the peer's own tokenizer."""
    client = httpx.Client(base_url=base, timeout=60)

    def count(text: str) -> int:
        answer = client.post("/tokenize", json={"content": text, "add_special": False})
        return len(answer.json()["tokens"])

    return count


def run_once(scenario: Scenario, url: str, seed: int) -> Figures:
    """One server, one scenario, one event loop of its own."""

    async def run() -> Figures:
        return await scenario.run(url, seed)

    return asyncio.run(run())


def run_pairs(scenario: Scenario, our_url: str, their_url: str, pairs: int) -> list[Pair]:
    """A B, B A, A B ...: the order changes so that neither server always runs on the warmer machine."""
    results: list[Pair] = []
    for number in range(pairs):
        urls = [our_url, their_url] if number % 2 == 0 else [their_url, our_url]
        by_url = {url: run_once(scenario, url, number + 1) for url in urls}
        results.append((by_url[our_url], by_url[their_url]))
    return results


def report(lines: list[str], pairs: int, threads: int) -> str:
    """The page: what was run, on what, and the table."""
    return PAGE.format(
        sequences=SEQUENCES,
        slots=SLOTS,
        threads=threads,
        context=CONTEXT,
        pairs=pairs,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        cpu=machine(),
        table="\n".join(lines),
    )


def main() -> None:
    """Build what is missing, start both servers, run the scenarios, print (and write) the table."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--server", type=Path, help="an existing llama-server binary of the same source and flags")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", default="", help="scenarios whose name contains this text")
    parser.add_argument("--write", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    cache = cache_dir() / "bench"
    model = make_model(cache)
    binary = args.server or peer.build(cache)
    lines = [header()]
    print(lines[0], flush=True)
    with (
        peer.server(binary, model, slots=SLOTS, context=CONTEXT, threads=threads) as their_url,
        ours.server(model, sequences=SEQUENCES, context=CONTEXT, threads=threads) as our_url,
    ):
        for scenario in all_scenarios(counter(their_url)):
            if args.only in scenario.name:
                lines.append(row(scenario.name, run_pairs(scenario, our_url, their_url, args.pairs)))
                print(lines[-1], flush=True)
    if args.write:
        args.write.write_text(report(lines, args.pairs, threads))


if __name__ == "__main__":
    main()
