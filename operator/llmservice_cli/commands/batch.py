"""`llmservice batch`: ask every line of a file, behind live requests, and write the answers into another file."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmservice_cli.batch.lines import look_through
from llmservice_cli.batch.results import Results
from llmservice_cli.batch.tally import Tally, failed
from llmservice_cli.local.client import Control
from llmservice_cli.places import Places

AT_ONCE, MOST_AT_ONCE = 32, 1024
KEY_ENV = "OPENAI_API_KEY"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("input", type=Path, metavar="IN.jsonl", help="a request a line, as OpenAI's batches have them")
    parser.add_argument(
        "-o", "--out", dest="out", type=Path, required=True, metavar="OUT.jsonl",
        help="gets the answers as they come. What it has is not asked again: run it again after it was ended",
    )  # fmt: skip
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-f", "--file", dest="files", type=Path, action="append", metavar="FILE",
        help="manifest of what is asked: served for as long as this takes. Default: what runs here already",
    )  # fmt: skip
    where.add_argument(
        "--url", type=_url, metavar="URL", help=f"another gateway, as a cluster's; its API key comes from {KEY_ENV}"
    )
    parser.add_argument("--model", metavar="NAME", help="ask this service, whatever `model` the lines name")
    parser.add_argument(
        "--concurrency", type=_at_once, default=AT_ONCE, metavar="N",
        help=f"requests at a time (default {AT_ONCE}); what has no room waits at the gateway",
    )  # fmt: skip
    parser.add_argument("--retry-failed", action="store_true", help="ask again what failed before")


def run(args: argparse.Namespace) -> int:
    """0 when every line has an answer, 1 when some failed, 130 when it was interrupted."""
    batch = look_through(args.input, args.model)
    results = Results(args.out, args.input, batch.names)
    with contextlib.closing(results):
        tally = Tally(len(batch.names))
        results.read(
            lambda result: tally.add(_line_of(result), result, now=False),
            (lambda result: not failed(result)) if args.retry_failed else (lambda _: True),
        )
        if tally.done:
            print(f"{args.out} has {tally.done:,} of {tally.lines:,} lines already.", flush=True)
        began = time.monotonic()
        whole = True
        try:
            if tally.done < tally.lines:
                with _served(args) as url:
                    whole = _work(args, batch, results, tally, url)
        finally:
            print(tally.told(time.monotonic() - began), flush=True)
    if not whole:
        print(f"Interrupted. Run the same command again: it goes on with the {tally.lines - tally.done:,} lines left.")
        return 130
    return 1 if tally.failed else 0


def _work(args: argparse.Namespace, batch: Any, results: Results, tally: Tally, url: str) -> bool:
    from llmservice_cli.batch.work import Where, work

    where = Where(url, os.environ.get(KEY_ENV, "") if args.url else "")
    return asyncio.run(work(batch, results, tally, where, args.concurrency))


@contextlib.contextmanager
def _served(args: argparse.Namespace) -> Iterator[str]:
    """The base URL to ask. What is served for the batch alone ends with it."""
    if args.url:
        yield args.url
        return
    places = Places.from_environment()
    if not args.files:
        yield str(Control(places.state).snapshot()["url"])
        return
    from llmservice_cli.batch.serving import serving

    with serving(args.files, places, lambda text: print(text, flush=True)) as url:
        yield url


def _line_of(result: Any) -> int:
    return int(str(result["id"]).split("_")[2])


def _at_once(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_AT_ONCE:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests (1 to {MOST_AT_ONCE})")
    return int(text)


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text!r} is no base URL (http://HOST[:PORT]/v1)")
    return text
