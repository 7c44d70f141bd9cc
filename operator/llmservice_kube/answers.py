"""What the API server answers, read so that an object that can't be parsed costs only itself.

A parser reads a list or gives up on all of it, and whoever may write one object decides which: by nesting it deep, by
half a surrogate pair, by its sheer size. So a list that can't be read whole is cut apart first, without recursion, and
each object is read by itself. One that can't be is there as its names, its status and `MARK`, which says why; `parsed`
raises it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from pydantic_core import from_json, to_json

from llmservice_kube.kinds import Json

MARK = "llmservice.dev/unparsed"
"""Field of an object that could not be parsed: why. No object of a server has such a field."""
MOST_WEIGHT = 16 << 20
"""Of an object, in bytes: about what it takes when it is parsed. A page of a hundred usual ones has less."""
_EACH = 64
"""Bytes that a value takes beside its text."""
_FEW = 100
"""Brackets in a watch event that can't be nested too deep, so that most are read only once."""
NAMES = ("name", "namespace", "uid", "resourceVersion", "generation", "labels")
"""What is kept of the metadata of an object that can't be read."""
_WHERE = re.compile(r" at line \d+ column \d+$")
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]', re.DOTALL)
_FIELD = re.compile(rb'\s*("(?:[^"\\]++|\\.)*+")\s*:\s*', re.DOTALL)


def answer(text: bytes, most: int | None = None) -> Json:
    """An answer; objects of a list that can't be parsed are marked. Raises ValueError for one that is no list.

    Of a list that is read object by object, no more is read than weighs `most`; None = all of it.
    """
    if weight(text) <= MOST_WEIGHT:
        try:
            return _plain(text)
        except ValueError:
            if b'"items"' not in text:
                raise
    fields = dict(_fields(text))
    if (items := fields.pop("items", None)) is None:
        return _plain(text)
    found: Json = {name: from_json(value) for name, value in fields.items()}
    return {**found, "items": None if items.strip() == b"null" else list(_objects(_cut(items), most))}


def event(line: bytes) -> bytes:
    """A line of a watch; an object that can't be parsed is marked. What is no event at all stays as it is."""
    light = weight(line) <= MOST_WEIGHT
    if light and line.count(b"{") + line.count(b"[") <= _FEW and b"\\u" not in line:
        return line
    try:
        if light:
            from_json(line)
            return line
    except ValueError:
        pass
    try:
        fields = dict(_fields(line))
        return to_json({"type": from_json(fields["type"]), "object": _object(fields["object"])})
    except (ValueError, KeyError):
        return line


def parsed(obj: Json) -> Json:
    """The object, when it could be parsed. Raises ValueError that says why otherwise."""
    if (why := obj.get(MARK)) is not None:
        raise ValueError(why)
    return obj


def weight(text: bytes) -> int:
    """About how many bytes this takes when it is parsed."""
    return len(text) + _EACH * (text.count(b"[") + text.count(b"{") + text.count(b","))


def is_json(text: bytes) -> bool:
    """Whether this is an object, as far as its brackets say."""
    try:
        return text.strip().startswith(b"{") and bool(_cut(text))
    except ValueError:
        return False


def _objects(items: list[bytes], most: int | None) -> Iterator[Json]:
    read = 0
    for item in items:
        read += weight(item) if weight(item) <= MOST_WEIGHT else 0
        if most is not None and read > most:
            return
        yield _object(item)


def _plain(text: bytes) -> Json:
    found: Json = from_json(text)
    return found


def _object(text: bytes) -> Json:
    try:
        if weight(text) > MOST_WEIGHT:
            raise ValueError(f"it takes more than {MOST_WEIGHT >> 20} MiB to read")
        return _plain(text)
    except ValueError as error:
        fields = dict(_fields(text))
        names = dict(_fields(fields.get("metadata", b"{}")))
        metadata = {name: from_json(names[name]) for name in NAMES if name in names}
        found: Json = {"metadata": metadata, MARK: _WHERE.sub("", str(error))}
        with contextlib.suppress(ValueError):
            if "status" in fields and weight(fields["status"]) <= MOST_WEIGHT:
                found["status"] = from_json(fields["status"])
        return found


def _fields(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Fields of an object, their values as text."""
    for part in _cut(text):
        if (field := _FIELD.match(part)) is None:
            raise ValueError("no JSON object")
        yield from_json(field[1]), part[field.end() :]


def _cut(text: bytes) -> list[bytes]:
    """An object or an array, cut at the commas of its first level. Raises ValueError when its brackets don't close."""
    text = text.strip()
    found, depth, begin = list[bytes](), 0, 1
    for token in _TOKEN.finditer(text):
        match text[token.start()]:
            case 0x5B | 0x7B:  # [ {
                depth += 1
            case 0x5D | 0x7D:  # ] }
                depth -= 1
            case 0x2C if depth == 1:  # ,
                found.append(text[begin : token.start()])
                begin = token.end()
    if depth or text[:1] not in (b"[", b"{") or text[-1:] not in (b"]", b"}"):
        raise ValueError("no whole JSON object or array")
    last = text[begin:-1]
    return [*found, last] if last.strip() else found
