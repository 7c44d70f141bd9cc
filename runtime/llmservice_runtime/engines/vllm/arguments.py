"""What vLLM is told by spec.engine.args: checked by a parser made of the options it told, before any GPU is taken."""

from __future__ import annotations

import argparse
import difflib
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.base.capabilities import Option, capabilities
from llmservice_runtime.engines.vllm import values

HERE = Path(__file__).parent
LEVELS = ("0", "1", "2", "3")
"""What may follow an -O that stands alone."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        told = capabilities(HERE)
        unknown = re.match(r"unrecognized arguments: (--?[\w-]+)", message)
        near = difflib.get_close_matches(unknown[1], told.options, n=3) if unknown else []
        way_out = f"Did you mean {' or '.join(near)}?" if near else "`vllm serve --help=all` lists what it takes."
        raise UserError(f"engine.args: vLLM {told.versions['vllm']} refuses them: {message}.", way_out)


def check(args: Sequence[str]) -> None:
    """UserError BadArgument names the argument that vLLM's own parser would refuse."""
    if args:
        _parser().parse_args(list(_spelled(args)))


def _spelled(args: Sequence[str]) -> Iterator[str]:
    """As vLLM reads names: `_` for `-`, -O3 as an option, and `--config.key value` as a part of a JSON value."""
    left = deque(args)
    while left:
        arg = left.popleft()
        if arg.startswith("-O") and (arg != "-O" or (left and left[0] in LEVELS)):
            yield "--optimization-level"
            if level := arg[2:].removeprefix("="):
                yield level
            continue
        name, equals, value = arg.partition("=")
        if not re.match(r"--?[a-zA-Z]", name):
            yield arg
            continue
        name, dot, key = name.partition(".")
        name = name.replace("_", "-") if name.startswith("--") else name
        if dot and (equals or left):
            yield from (name, json.dumps({key: value if equals else left.popleft()}))
        else:
            yield f"{name}{equals}{value}"


@cache
def _parser() -> _Parser:
    parser = _Parser(add_help=False, prog="vllm serve")
    for name, option in capabilities(HERE).options.items():
        parser.add_argument(name, *option.also, **_how(option))
    return parser


def _how(option: Option) -> dict[str, Any]:
    if option.type == "flag":
        return {"action": "store_true"}
    kind = values.KINDS.get(option.type, str)
    if option.bounds:
        kind = values.within(kind, option.bounds)
    return {"type": kind, "choices": option.choices or None, "nargs": option.values or None}
