"""spec.engine.args of vLLM, read by a parser made of the options that it told, before any GPU is taken."""

from __future__ import annotations

import argparse
import difflib
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.base.capabilities import Option
from llmservice_runtime.engines.base.strict import StrictParser
from llmservice_runtime.engines.vllm import values
from llmservice_runtime.engines.vllm.owned import OWNED
from llmservice_runtime.engines.vllm.told import known

LEVELS = ("0", "1", "2", "3")
"""What may follow an -O that stands alone."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One option as it was given: `value` as vLLM reads it (False for `--no-...`), `words` as a command line has it."""

    value: Any
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)


Given = Mapping[str, Argument]
"""By the option's long name; of an option that was repeated the last, as in vLLM."""


class _Parser(StrictParser):
    def error(self, message: str) -> NoReturn:
        told = known()
        unknown = re.match(r"unrecognized arguments: (--?[\w-]+)", message)
        near = difflib.get_close_matches(unknown[1], told.options.keys() - OWNED.keys(), n=3) if unknown else []
        way_out = f"Did you mean {' or '.join(near)}?" if near else "`vllm serve --help=all` lists what it takes."
        if near and unknown and unknown[1] == near[0]:  # `- --max-model-len 4096`: one item of YAML's list
            way_out = f"Give the option and its value as two items of the list, or as {unknown[1]}=VALUE."
        raise UserError(f"engine.args: vLLM {told.versions['vllm']} refuses them: {message}.", way_out)


class _Record(argparse.Action):
    """Keeps the last of each option, with its words."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        name = self.option_strings[0]
        if isinstance(values, list):
            argument = Argument([one.value for one in values], (name, *(one.text for one in values)))
        elif values is None:  # an option whose value may be left out
            argument = Argument(None, (name,))
        else:
            argument = Argument(values.value, (f"{name}={values.text}",))
        _keep(namespace.seen, name, argument)


class _Flag(_Record):
    def __init__(self, option_strings: Sequence[str], dest: str, **rest: Any) -> None:
        super().__init__(option_strings, dest, **{**rest, "nargs": 0})

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        off = next((name for name in self.option_strings[1:] if name.startswith("--no-")), "")
        name = self.option_strings[0]
        negated = bool(off) and (option or "").startswith("--no-")
        _keep(namespace.seen, name, Argument(not negated, (off if negated else name,)))


def _keep(seen: dict[str, Argument], name: str, argument: Argument) -> None:
    seen.pop(name, None)
    seen[name] = argument


def read(args: Sequence[str]) -> Given:
    """Every option that is given. UserError BadArgument names the argument that vLLM's own parser would refuse."""
    seen: dict[str, Argument] = {}
    if args:
        _parser().read(_spelled(args), argparse.Namespace(seen=seen))
    return seen


def words(given: Given) -> tuple[str, ...]:
    """A command line of them, each option once."""
    return tuple(word for argument in given.values() for word in argument.words)


def _spelled(args: Sequence[str]) -> Iterator[str]:
    """As vLLM reads names: `_` for `-`, -O3 as an option, and `--config.key value` as a part of a JSON value.

    Parts of one value are put together, behind all else, as vLLM does.
    """
    left, parts = deque(args), dict[str, dict[str, Any]]()
    while left:
        arg = left.popleft()
        if arg.startswith("-O") and (arg != "-O" or (left and left[0] in LEVELS)):
            yield "--optimization-level"
            if level := arg[2:].removeprefix("="):
                yield level
            continue
        name, equals, value = arg.partition("=")
        if not re.fullmatch(r"--?[a-zA-Z]\S*", name):
            yield arg
            continue
        name, dot, key = name.partition(".")
        name = name.replace("_", "-") if name.startswith("--") else name
        if dot and (equals or left):
            _put(parts.setdefault(name, {}), key, value if equals else left.popleft())
        else:
            yield f"{name}{equals}{value}"
    for name, whole in parts.items():
        yield from (name, json.dumps(whole))


def _put(whole: dict[str, Any], key: str, text: str) -> None:
    """`a.b` of a value, as JSON where it is some; `a+` adds to a list."""
    *path, last = key.split(".")
    for step in path:
        whole = whole.setdefault(step, {}) if isinstance(whole.get(step, {}), dict) else {}
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = values.size(text)
        except argparse.ArgumentTypeError:
            value = text
    if last.endswith("+"):
        whole.setdefault(last[:-1], []).extend(value if isinstance(value, list) else str(text).split(","))
    else:
        whole[last] = value


@cache
def _parser() -> _Parser:
    parser = _Parser(add_help=False, prog="vllm serve", argument_default=argparse.SUPPRESS)
    for name, option in known().options.items():
        parser.add_argument(name, *option.also, **_how(option))
    return parser


def _how(option: Option) -> dict[str, Any]:
    if option.type == "flag":
        return {"action": _Flag}
    kind = values.KINDS.get(option.type, str)
    if option.bounds:
        kind = values.within(kind, option.bounds)
    return {"action": _Record, "type": values.kept(kind, option.choices), "nargs": option.values or None}
