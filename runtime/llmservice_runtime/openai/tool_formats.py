"""How a model writes tool calls: the markup around names and arguments, as values."""

from __future__ import annotations

import re
import secrets
import string
from dataclasses import dataclass

INDEX, ID = "\ue000", "\ue001"
"""In markup: where a call's number, or its id, stands."""
HOLES = {INDEX: re.compile(r"[0-9]{1,6}"), ID: re.compile(r"[A-Za-z0-9_.:-]{1,64}")}
TAG = re.compile(r"<[^<>\s]{1,40}>|\[[A-Z_]{3,40}\]")
"""What is one token in most vocabularies: never cut in two."""
OPENING = re.compile(r"[<\[{]\S{0,40}")
ATOM = re.compile(TAG.pattern + r"|\d+|\s|\w+|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Arguments in markup of their own, each `key` NAME (`text` or `json`) VALUE `end`."""

    key: str
    text: str
    """Between a key and a text, which stands as it is."""
    json: str
    """Between a key and any other value, which stands as JSON; the same as `text` where the schema alone tells them."""
    end: str


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """`open`, then calls with `separator` between them, then `close`. A call: `head` NAME `named` ARGUMENTS `tail`.

    ARGUMENTS are one JSON object, or `pairs`. White space in markup is written as it stands and read as any.
    """

    head: str
    named: str
    tail: str
    open: str = ""
    close: str = ""
    separator: str = ""
    pairs: Pairs | None = None
    parallel: bool = False
    """Whether the template writes several calls in one answer."""
    special: tuple[tuple[str, int], ...] = ()
    """Parts of the markup that are special tokens, and their ids: generated as those, shown only when they are kept."""

    @property
    def markup(self) -> tuple[str, ...]:
        """All of it, part by part."""
        pairs = (self.pairs.key, self.pairs.text, self.pairs.json, self.pairs.end) if self.pairs else ()
        return (self.open, self.head, self.named, self.tail, self.separator, self.close, *pairs)

    @property
    def begin(self) -> str:
        """What every answer with calls has before them, and no text has: the first tag, or all before the name."""
        before = (self.open + self.head).lstrip()
        tag = TAG.match(before)
        if tag is not None:
            return tag[0]
        found = OPENING.match(before)
        return found[0] if found else before

    @property
    def first(self) -> str:
        """What follows `begin` before the first name."""
        return (self.open + self.head).lstrip()[len(self.begin) :]

    @property
    def wrapped(self) -> bool:
        """Whether all calls of an answer stand in one group."""
        return bool(self.open.strip() or self.close.strip())

    @property
    def bare(self) -> bool:
        """Nothing but JSON marks a call: only an answer that starts so is one."""
        return self.begin[:1] == "{" or (self.begin[:1] == "[" and TAG.match(self.begin) is None)

    def new_id(self) -> str:
        """Nine letters and digits: what Mistral's templates insist on and every client accepts."""
        return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


CHANNEL_CALL = "<|channel|>commentary to=functions."
CHANNELS = ToolFormat(CHANNEL_CALL, " <|constrain|>json<|message|>", "")
"""Of gpt-oss, whose templates write the calls of earlier answers in another order than its models write them."""


def known_format(source: str) -> ToolFormat | None:
    """The format that stands in the text of this template, where its calls teach none."""
    return CHANNELS if "<|channel|>commentary" in source and "functions." in source else None


def atoms(text: str) -> list[str]:
    """Tags, numbers, words and single characters: what markup is compared by."""
    return ATOM.findall(text)


def common(one: str, other: str) -> int:
    """Length of the common beginning, in whole tags."""
    size = 0
    for a, b in zip(atoms(one), atoms(other), strict=False):
        if a != b:
            break
        size += len(a)
    return size


def swallow(text: str, markup: str, at: int = 0) -> int | None:
    """Where `markup` ends that begins at `at`, white space apart; -1 = it is not there; None = more text decides."""
    for char in markup:
        if char.isspace():
            continue
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return None
        hole = HOLES.get(char)
        if hole is None:
            if text[at] != char:
                return -1
            at += 1
            continue
        filled = hole.match(text, at)
        if filled is None:
            return -1
        if filled.end() == len(text):
            return None
        at = filled.end()
    return at
