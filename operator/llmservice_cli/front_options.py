"""Options that an instance keeps as it started with them: of `up`, and of what has it started with each session."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from llmservice_api.sources import SCHEMES
from llmservice_cli.local.front import Front
from llmservice_cli.options import port_number
from llmservice_cli.plans import memory_size
from llmservice_runtime.contract.bounds import ANY, is_origin
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.listening import is_loopback
from llmservice_runtime.contract.ports import GATEWAY_PORT
from llmservice_runtime.wire.callers import is_host

FIXED = (
    "--port", "--host", "--allow-host", "--allow-origin", "--allow-launch", "--answer-seconds", "--memory",
    "--no-console",
)  # fmt: skip
SOURCES = tuple(scheme for scheme in SCHEMES if scheme != "pvc")
"""Where this machine has models from."""
GIB = 1 << 30
DEFAULT = Front()


def add_front(parser: argparse.ArgumentParser) -> None:
    """FIXED."""
    parser.add_argument(
        "--port", type=port_number, metavar="N", help=f"of the gateway (default {GATEWAY_PORT}; 0 = any free)"
    )
    parser.add_argument("--host", metavar="ADDRESS", help="to listen on (default 127.0.0.1: this machine only)")
    parser.add_argument(
        "--allow-host",
        type=_host,
        action="append",
        default=[],
        metavar="NAME",
        help="other name under which the gateway is reached, as behind a proxy; * = any. May be repeated",
    )
    parser.add_argument(
        "--allow-origin",
        type=_origin,
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web pages of this origin (https://chat.example.com) may call the gateway; * = all. May be repeated",
    )
    parser.add_argument(
        "--allow-launch",
        type=_source,
        action="append",
        default=[],
        metavar="SOURCE",
        help="clients of Xinference and Ollama on this machine may launch (pull) models from this source (hf, "
        "modelscope, s3, http, https, oci, file; * = any), and remove these. May be repeated",
    )
    parser.add_argument(
        "--answer-seconds",
        type=seconds,
        metavar="SECONDS",
        help="how long an answer may take to begin (a stream) or to end (a whole one); default: 20 times what is "
        "planned with the speed that replicas measured, at least 600",
    )
    parser.add_argument(
        "--memory",
        type=memory_size,
        metavar="SIZE",
        help="what all replicas may have of this machine's memory together (8Gi); default: what is free",
    )
    parser.add_argument(
        "--no-console", action="store_true", default=None, help="serve no page for browsers at the gateway's address"
    )


def front_of(args: argparse.Namespace, now: Front = DEFAULT) -> Front:
    """What the options say; of those that are not there, what `now` does. UserError where they contradict."""
    front = Front(
        args.host or now.host,
        tuple(args.allow_host) or now.hosts,
        tuple(args.allow_origin) or now.origins,
        memory_bytes=now.memory_bytes if args.memory is None else args.memory,
        console=now.console and not args.no_console,
        launch=tuple(args.allow_launch) or now.launch,
        answer_seconds=now.answer_seconds if args.answer_seconds is None else args.answer_seconds,
    )
    others = [f"--host {front.host}"] * (not is_loopback(front.host)) + ["--allow-host"] * bool(front.hosts)
    if front.launch and (others := [*others, *(["--allow-origin"] * bool(front.origins))]):
        raise UserError(
            "--allow-launch lets whoever reaches the gateway run models here, without a key, and "
            f"{', '.join(others)} lets others than programs of this machine reach it.",
            "Leave one of them out.",
        )
    return front


def words_of(front: Front) -> Iterator[str]:
    """The options that say it."""
    if front.host != DEFAULT.host:
        yield from ("--host", front.host)
    for option, values in (
        ("--allow-host", front.hosts), ("--allow-origin", front.origins), ("--allow-launch", front.launch)
    ):  # fmt: skip
        for value in values:
            yield from (option, value)
    if front.answer_seconds is not None:
        yield from ("--answer-seconds", f"{front.answer_seconds}".removesuffix(".0"))
    if front.memory_bytes is not None:  # a number is of GiB
        yield from ("--memory", f"{front.memory_bytes / GIB}".removesuffix(".0"))
    if not front.console:
        yield "--no-console"


def seconds(text: str) -> float:
    """Of an option: more than 0, and not for ever."""
    with contextlib.suppress(ValueError):
        if 0 < (found := float(text)) < float("inf"):
            return found
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def _source(text: str) -> str:
    if text != ANY and text not in SOURCES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(SOURCES)}, and not * for any")
    return text


def _host(text: str) -> str:
    if text != ANY and not is_host(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no host name (without scheme, port and path), and not *")
    return text


def _origin(text: str) -> str:
    if text != ANY and not is_origin(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no origin (SCHEME://HOST[:PORT], no path), and not * or null")
    return text
