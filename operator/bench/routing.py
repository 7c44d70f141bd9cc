"""`make bench-routing`: how much of prompts a replica still has in its cache, by who chooses the replica.

Replays a trace (512-token blocks of prompts, with hashes) against caches that forget the oldest blocks. Ours is the
gateway's own code. `--write FILE` puts the table into that page.
"""

from __future__ import annotations

import argparse
import gzip
import heapq
import itertools
import json
import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.page import write
from llmservice_gateway.balance import BOUND, choose
from llmservice_gateway.prefix import prefix_key

BLOCK_TOKENS = 512
BLOCK_TEXT = 2048
"""Characters that stand for a block's tokens."""
PREFILL, DECODE = 12_000.0, 0.02
"""Tokens a second of prompts that are not cached; seconds for each token of an answer."""
SEED = 11

Policy = Callable[[int, Mapping[str, int], int], str]
"""(key, tokens in flight by replica, this request's tokens) -> replica."""


@dataclass(frozen=True, slots=True)
class Request:
    """`at` seconds; `blocks` identify the prompt's beginning up to each of them."""

    at: float
    prompt_tokens: int
    answer_tokens: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """`hits`: share of prompt blocks that were cached. `uneven`: the most loaded replica against the mean, averaged."""

    hits: float
    uneven: float


def read_trace(path: Path) -> list[Request]:
    """A file of JSON lines: timestamp (ms), input_length, output_length, hash_ids."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [json.loads(line) for line in text.splitlines()]
    return [
        Request(row["timestamp"] / 1000, row["input_length"], row["output_length"], tuple(row["hash_ids"]))
        for row in rows
    ]


def made_trace(seed: int, seconds: float = 1800.0, per_second: float = 3.0) -> list[Request]:
    """Conversations of several turns below one system prompt of a few: the shape of the public trace, from a seed."""
    dice, fresh = random.Random(seed), itertools.count(100)
    requests: list[Request] = []
    at = 0.0
    while (at := at + dice.expovariate(per_second / 2.5)) < seconds:
        blocks, now = [0, *([1 + dice.randrange(4)] if dice.random() < 0.5 else [])], at
        for _ in range(min(20, 1 + int(dice.expovariate(1 / 1.5)))):
            blocks = [*blocks, *(next(fresh) for _ in range(max(1, round(dice.lognormvariate(1.5, 1.1)))))]
            requests.append(Request(now, BLOCK_TOKENS * len(blocks), int(dice.expovariate(1 / 340)), tuple(blocks)))
            now += 20 + dice.expovariate(1 / 60)
    return sorted(requests, key=lambda request: request.at)


def key_of(request: Request) -> int:
    """As the gateway sees it: the first block is the system prompt that all share, the next begins the conversation."""
    first, *rest = (f"{block:<{BLOCK_TEXT}}" for block in request.blocks[:3])
    messages = [{"role": "system", "content": first}, {"role": "user", "content": "".join(rest)}]
    return prefix_key({"messages": messages})


def ours(key: int, loads: Mapping[str, int], tokens: int) -> str:
    """The gateway's."""
    chosen = choose(key, loads, tokens, list(loads))
    assert chosen is not None
    return chosen


def least_load(_: int, loads: Mapping[str, int], __: int) -> str:
    """Fewest tokens in flight; of equals any, as nobody is the first."""
    least = min(loads.values())
    return _DICE.choice([name for name, load in loads.items() if load == least])


def at_random(_: int, loads: Mapping[str, int], __: int) -> str:
    """Any."""
    return _DICE.choice(list(loads))


def round_robin() -> Policy:
    """One after the other."""
    turn: Iterator[int] = itertools.count()
    return lambda _, loads, __: list(loads)[next(turn) % len(loads)]


_DICE = random.Random(SEED)


class Cache:
    """A replica's blocks; the ones that were not used for longest go first."""

    def __init__(self, blocks: int) -> None:
        self._room = blocks
        self._kept: OrderedDict[int, None] = OrderedDict()

    def use(self, blocks: Sequence[int]) -> int:
        """How many of the first blocks were there; all are afterwards."""
        hits = sum(1 for _ in itertools.takewhile(self._kept.__contains__, blocks))
        for block in reversed(blocks):
            self._kept[block] = None
            self._kept.move_to_end(block)
        while len(self._kept) > self._room:
            self._kept.popitem(last=False)
        return hits


def replay(trace: Sequence[Request], policy: Policy, replicas: int, blocks: int) -> Result:
    """Every request to one of the replicas, each with a cache of so many blocks."""
    loads = {f"replica-{n}": 0 for n in range(replicas)}
    caches = {name: Cache(blocks) for name in loads}
    running: list[tuple[float, str, int]] = []
    hits = asked = 0
    uneven = []
    for request in trace:
        while running and running[0][0] <= request.at:
            _, name, tokens = heapq.heappop(running)
            loads[name] -= tokens
        tokens = request.prompt_tokens + request.answer_tokens
        name = policy(key_of(request), loads, tokens)
        found = caches[name].use(request.blocks)
        hits, asked = hits + found, asked + len(request.blocks)
        loads[name] += tokens
        cold = max(0, request.prompt_tokens - found * BLOCK_TOKENS)
        end = request.at + cold / PREFILL + request.answer_tokens * DECODE
        heapq.heappush(running, (end, name, tokens))
        uneven.append(max(loads.values()) * replicas / sum(loads.values()))
    return Result(hits / asked, sum(uneven) / len(uneven))


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="bench-routing", description=__doc__)
    parser.add_argument("--trace", type=Path, help="JSON lines, also .gz; default: one made from a seed")
    parser.add_argument("--replicas", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--blocks", type=int, default=2000, help=f"of {BLOCK_TOKENS} tokens that a replica caches")
    parser.add_argument("--write", type=Path, help="page that gets the table")
    args = parser.parse_args()
    trace = read_trace(args.trace) if args.trace else made_trace(SEED)
    lines = [
        f"{len(trace):,} requests, {args.blocks:,} blocks of {BLOCK_TOKENS} tokens in each cache, bound {BOUND}.",
        "",
        "| | " + " | ".join(f"{n} replicas: hits | max/mean" for n in args.replicas) + " |",
        "|---|" + "---|" * 2 * len(args.replicas),
    ]
    everything = replay(trace, least_load, 1, 10**9)
    for name, policy in (
        ("ours: prefix, bounded load", ours),
        ("least load", least_load),
        ("round robin", round_robin()),
        ("random", at_random),
    ):
        results = [replay(trace, policy, n, args.blocks) for n in args.replicas]
        lines.append(f"| {name} | " + " | ".join(f"{r.hits:.1%} | {r.uneven:.2f}" for r in results) + " |")
    lines += ["", f"One replica with room for everything would have {everything.hits:.1%}."]
    text = "\n".join(lines)
    print(text)
    if args.write:
        write(args.write, "routing-trace" if args.trace else "routing-made", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
