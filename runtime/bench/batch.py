"""`make bench-batch`: what live requests notice of a batch that runs behind them, on llama.cpp.

The whole product: `llmservice up`, its gateway, `llmservice batch` as users run it. In each round the same live
requests are sent without a batch and beside one, in an order that changes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp

from bench.load import StreamResult, body_of, stream
from bench.make_model import make_model
from bench.prompts import WORDS
from bench.stats import median_interval, percentile
from bench.table import machine
from llmservice_runtime.contract.cache import cache_dir

PROGRAM = str(Path(sys.executable).with_name("llmservice"))
PROMPTS = (32, 64, 128, 256, 512)
"""Tokens of live prompts, one as often as the other."""
ANSWER_TOKENS = 32
BATCH_PROMPT, BATCH_ANSWER, BATCH_LINES = 128, 64, 20_000
CONTEXT = 1024
BUSY = 0.4
"""Part of the time in which live requests that come at random keep the engine busy..."""
REST_SECONDS = 0.2
"""...and between one and the next where they come one by one."""
COLUMNS = (
    "live requests", "TTFT p50 ms", "TTFT p99 ms", "rounds' p99", "gap p50 ms", "gap p99 ms", "batch, lines a minute",
    "broken",
)  # fmt: skip
PAGE = """# A batch beside live requests

`make bench-batch`: `llmservice up` with a model of random weights (230 million parameters, Q4_K_M) on llama.cpp,
as it is planned with {context} tokens of context, and `llmservice batch` with 32 requests at a time (prompts of
{prompt} tokens, answers of {answer}) as a process beside it on the same {cpus} processors. Live requests are streams
through the gateway, prompts
of {prompts} tokens that share nothing, answers of {live} tokens: one by one with {rest:.0f} ms between them, and at
random times that keep the engine busy for {busy:.0%} of the time. {rounds} rounds of {requests} requests: the same ones
without the batch and beside it, first the one, then the other. Figures are of all rounds together: without / beside
(ratio); `rounds' p99` is the median of the rounds' own ratios with the interval that holds it with 95 % or more. The
batch alone does {alone:.0f} lines a minute.

{date}, {machine}.

{table}
"""


@dataclass(frozen=True, slots=True)
class Live:
    """One kind of live traffic. `interval`: mean seconds between requests; 0 = one by one."""

    name: str
    interval: float = 0.0

    async def run(self, base: str, seed: str, side: str, count: int) -> list[StreamResult]:
        """`count` requests: of each length as many. Lengths and times are told by the seed; prompts by the side too, so
        that no cache knows them."""
        dice, words = random.Random(seed), random.Random(f"{seed} {side}")
        sizes = [PROMPTS[number % len(PROMPTS)] for number in range(count)]
        dice.shuffle(sizes)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:
            results, tasks = [], []
            for size in sizes:
                body = body_of(" ".join(words.choices(WORDS, k=size)), ANSWER_TOKENS, "bench")
                if self.interval:
                    tasks.append(asyncio.create_task(stream(session, base, body)))
                    await asyncio.sleep(dice.expovariate(1 / self.interval))
                else:
                    results.append(await stream(session, base, body))
                    await asyncio.sleep(REST_SECONDS * dice.uniform(0.5, 1.5))
            return [*results, *await asyncio.gather(*tasks)]


@dataclass(frozen=True, slots=True)
class Round:
    """One pair: without the batch, and beside it; lines a minute that it did meanwhile."""

    without: list[StreamResult]
    beside: list[StreamResult]
    lines: float


class Batch:
    """A batch of more lines than it will get to, that is begun and interrupted; it goes on where it was."""

    def __init__(self, folder: Path, base: str) -> None:
        self._base = base
        self._input, self._out = folder / "in.jsonl", folder / "out.jsonl"
        chosen = random.Random("batch")
        with self._input.open("w") as file:
            for number in range(BATCH_LINES):
                prompt = " ".join(chosen.choices(WORDS, k=BATCH_PROMPT))
                body = {"model": "bench", "prompt": prompt, "max_tokens": BATCH_ANSWER, "ignore_eos": True}
                line = {"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}
                file.write(f"{json.dumps(line)}\n")

    @property
    def done(self) -> int:
        """Lines that have an answer."""
        return self._out.read_bytes().count(b"\n") if self._out.exists() else 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """From its first answer on."""
        before = self.done
        command = [PROGRAM, "batch", str(self._input), "-o", str(self._out), "--url", self._base]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while self.done == before:
                if process.poll() is not None:
                    raise SystemExit(f"error: {command} ended with {process.returncode}")
                time.sleep(0.1)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


@contextlib.contextmanager
def served(folder: Path, model: Path) -> Iterator[str]:
    """The base URL of an instance of its own, without /v1."""
    where, engine = {"uri": f"file://{model}"}, {"type": "LlamaCpp"}
    spec = {"model": where, "task": "Completion", "contextTokens": CONTEXT, "engine": engine}
    manifest = folder / "bench.yaml"
    kind = {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService", "metadata": {"name": "bench"}, "spec": spec}
    manifest.write_text(json.dumps(kind))
    env = {**os.environ, "LLMSERVICE_STATE_DIR": str(folder / "state")}
    try:
        subprocess.run([PROGRAM, "up", "-f", str(manifest), "--port", "0", "--detach"], env=env, check=True)
        told = subprocess.run([PROGRAM, "ps", "-o", "json"], env=env, check=True, capture_output=True, text=True).stdout
        yield str(json.loads(told)["items"][0]["status"]["url"]).removesuffix("/v1")
    finally:
        subprocess.run([PROGRAM, "down", "--force"], env=env, check=True)


def rounds_of(live: Live, base: str, batch: Batch, rounds: int, count: int) -> list[Round]:
    """Pairs; every other round begins with the batch."""
    found = []
    for number in range(rounds):
        without = partial(live.run, base, seed := f"{live.name} {number}", "without", count)
        first = asyncio.run(without()) if number % 2 == 0 else None
        with batch.running():
            before, began = batch.done, time.monotonic()
            beside = asyncio.run(live.run(base, seed, "beside", count))
            lines = (batch.done - before) / (time.monotonic() - began) * 60
        found.append(Round(first or asyncio.run(without()), beside, lines))
    return found


def row(live: Live, rounds: Sequence[Round]) -> str:
    """A line of the table."""
    sides = [[result for one in rounds for result in side(one) if not result.broken] for side in (_without, _beside)]
    firsts = [[result.ttft for result in side] for side in sides]
    gaps = [[gap for result in side for gap in result.gaps] for side in sides]
    ratios = [_p99(one.beside) / _p99(one.without) for one in rounds]
    low, high = median_interval(ratios)
    cells = [live.name, _pair(firsts, 0.5), _pair(firsts, 0.99)]
    cells += [f"{statistics.median(ratios):.2f} ({low:.2f}-{high:.2f})", _pair(gaps, 0.5), _pair(gaps, 0.99)]
    cells += [f"{statistics.median(one.lines for one in rounds):.0f}"]
    broken = [sum(bool(result.broken) for one in rounds for result in side(one)) for side in (_without, _beside)]
    cells.append(" / ".join(map(str, broken)))
    return "| " + " | ".join(cells) + " |"


def _without(one: Round) -> list[StreamResult]:
    return one.without


def _beside(one: Round) -> list[StreamResult]:
    return one.beside


def _p99(results: Sequence[StreamResult]) -> float:
    return percentile([result.ttft for result in results if not result.broken], 0.99)


def _pair(values: Sequence[Sequence[float]], share: float) -> str:
    without, beside = (percentile(side, share) * 1000 for side in values)
    return f"{without:.0f} / {beside:.0f} (**{beside / without:.2f}**)"


def main() -> None:
    """Print (and write) the table."""
    parser = argparse.ArgumentParser(prog="bench.batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=50, help="live ones of a round, on each side")
    parser.add_argument("--write", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: it was ended"))  # with what it began
    model = make_model(cache_dir() / "bench")
    folder = Path(tempfile.mkdtemp())
    table = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    print(*table, sep="\n", flush=True)
    try:
        with served(folder, model) as base:
            batch = Batch(folder, base)
            one_by_one = Live("one by one")
            warm = asyncio.run(one_by_one.run(base, "warm", "", 20))
            took = statistics.fmean(result.ended - result.started for result in warm)
            with batch.running():
                before, began = batch.done, time.monotonic()
                time.sleep(max(5.0, args.requests / 5))
                alone = (batch.done - before) / (time.monotonic() - began) * 60
            for live in (one_by_one, Live("at random times", took / BUSY)):
                table.append(row(live, rounds_of(live, base, batch, args.rounds, args.requests)))
                print(table[-1], flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.write:
        args.write.write_text(page(table, args.rounds, args.requests, alone))


def page(table: Sequence[str], rounds: int, requests: int, alone: float) -> str:
    """What is written."""
    return PAGE.format(
        context=CONTEXT, prompt=BATCH_PROMPT, answer=BATCH_ANSWER, cpus=len(os.sched_getaffinity(0)),
        prompts=f"{PROMPTS[0]} to {PROMPTS[-1]}", live=ANSWER_TOKENS, rest=REST_SECONDS * 1000, busy=BUSY,
        rounds=rounds, requests=requests, alone=alone, date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=machine(), table="\n".join(table),
    )  # fmt: skip


if __name__ == "__main__":
    main()
