"""Values of vLLM's options, read as its own parser reads them: sizes, JSON, LoRA modules, numbers within bounds."""

from __future__ import annotations

import difflib
import json
import operator
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Reader = Callable[[str], Any]

_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIGNS: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "ge": (operator.ge, "at least"),
    "gt": (operator.gt, "more than"),
    "le": (operator.le, "at most"),
    "lt": (operator.lt, "less than"),
}
_NOTHING = ("", "None")
"""What stands for no value."""


def size(text: str) -> int:
    """A number that may have a suffix: small letters count in thousands and take decimals, capital ones in 1024."""
    number, suffix = text.strip()[:-1], text.strip()[-1:]
    try:
        if suffix in _DECIMAL and re.fullmatch(r"\d+(\.\d+)?", number):
            return int(float(number) * _DECIMAL[suffix])
        if suffix in _BINARY and number.isdecimal():
            return int(number) * _BINARY[suffix]
        return int(text)
    except ValueError:
        said = f"{text!r} is no number such as 8192, 8k, 1.5k (1500) or 8K (8192); decimals need a small letter"
        raise ArgumentTypeError(said) from None


def size_or_auto(text: str) -> int:
    """The same; -1 and auto leave it to vLLM."""
    return -1 if text.strip().lower() in ("-1", "auto") else size(text)


def json_value(text: str) -> Any:
    """Any JSON."""
    if text in _NOTHING:
        return None
    try:
        return json.loads(text)
    except ValueError:
        said = f"""{text!r} is no JSON, such as {{"key": 1}}, ["value"] or "value" with its quotes"""
        raise ArgumentTypeError(said) from None


def json_object(text: str) -> Any:
    """A JSON object, in which numbers may have the suffixes of sizes."""
    parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
    parts[::2] = [re.sub(r"\b\d+(\.\d+)?[kKmMgGtT]\b", lambda found: str(size(found[0])), part) for part in parts[::2]]
    try:
        value = None if text in _NOTHING else json.loads("".join(parts))
    except ValueError:
        value = ""
    if value is not None and not isinstance(value, dict):
        raise ArgumentTypeError(f"""{text!r} is no JSON object such as {{"key": 1}}""")
    return value


def str_or_object(text: str) -> Any:
    """A text, unless it looks like an object."""
    return json_value(text) if re.fullmatch(r"\s*{.*}\s*", text, re.DOTALL) else text


def lora(text: str) -> Any:
    """A LoRA module: name=path, or an object with both."""
    if not text or ("=" in text and "," not in text):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not {"name", "path"} <= value.keys():
        raise ArgumentTypeError(f"""{text!r} is neither name=path nor {{"name": "...", "path": "..."}}""")
    return value


@dataclass(frozen=True, slots=True)
class Kept:
    """A value beside the text that it was read from."""

    text: str
    value: Any


def kept(read: Reader, choices: Sequence[str | int]) -> Callable[[str], Kept]:
    """The same with its text; one of `choices`, where there are some."""

    def keeping(text: str) -> Kept:
        value = read(text)
        if choices and value not in choices:
            near = difflib.get_close_matches(text, list(map(str, choices)), n=3, cutoff=0.5)
            some = f"near it are {', '.join(near)}" if near else f"it takes {', '.join(map(str, choices))}"
            raise ArgumentTypeError(f"{text} is none of its values; {some}")
        return Kept(text, value)

    keeping.__name__ = read.__name__  # argparse says it
    return keeping


def within(read: Reader, bounds: Mapping[str, float]) -> Reader:
    """The same, for numbers that keep to the bounds (ge, gt, le, lt); no number keeps to any as NaN."""

    def bounded(text: str) -> Any:
        value = read(text)
        if not all(_SIGNS[sign][0](value, bound) for sign, bound in bounds.items()):
            wanted = " and ".join(f"{_SIGNS[sign][1]} {bound:g}" for sign, bound in bounds.items())
            raise ArgumentTypeError(f"{text} is not {wanted}")
        return value

    bounded.__name__ = read.__name__  # argparse says it
    return bounded


KINDS: Mapping[str, Reader] = {
    "int": int,
    "float": float,
    "size": size,
    "size_or_auto": size_or_auto,
    "json": json_value,
    "object": json_object,
    "str_or_object": str_or_object,
    "lora": lora,
}
"""By an option's type; all others take any text."""
