"""The lines of a batch: OpenAI's, one request each. Pure, but for reading the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.wire.body import finite
from llmservice_runtime.wire.errors import MAX_BODY_BYTES

URLS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/rerank",
    "/v1/score",
)
"""What a line may ask."""
FIELDS = ("custom_id", "method", "url", "body")
LONGEST_ID = 512
MOST_BYTES = MAX_BODY_BYTES + (1 << 20)
"""Of a line: its body, and what stands around it. No more of one is read: a file may be one line."""
BOM = b"\xef\xbb\xbf"
SHOWN = 5
"""Mistakes that are named when there are more."""


@dataclass(frozen=True, slots=True)
class Line:
    """A request. `name` tells it from all others, also after somebody edited the file."""

    number: int
    name: str
    custom_id: str
    url: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """One that can't be asked, and why."""

    number: int
    name: str
    custom_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A file of them. `names` by number, of all that are no blank lines."""

    path: Path
    model: str | None
    """Asked instead of what lines name; None = what they name."""
    names: Mapping[int, str]

    def lines(self) -> Iterator[Line | BadLine]:
        """All, in their order. UserError where the file has changed since it was looked through."""
        for number, raw in _raw(self.path):
            if self.names.get(number) != _name(number, raw):
                raise UserError(f"{self.path}: line {number} was changed while the batch ran.", "Run it again.")
            yield _read(number, raw, self.model)


def look_through(path: Path, model: str | None) -> Batch:
    """The batch in a file. UserError where there is none, or where answers could not be told apart."""
    names: dict[int, str] = {}
    first: dict[str, int] = {}
    twice: list[str] = []
    for number, raw in _raw(path):
        names[number] = _name(number, raw)
        line = _read(number, raw, model)
        if line.custom_id is None:
            continue
        before = first.setdefault(line.custom_id, number)
        if before != number:
            twice.append(f"`{line.custom_id[:80]}` in lines {before} and {number}")
    if twice:
        more = f" and {len(twice) - SHOWN} more" if len(twice) > SHOWN else ""
        raise UserError(
            f"{path}: several lines have the same custom_id: {', '.join(twice[:SHOWN])}{more}.",
            "Give each line one of its own: it is what tells the answers apart.",
        )
    if not names:
        raise UserError(
            f"{path} has no lines.", 'A line is {"custom_id": ..., "method": "POST", "url": ..., "body": ...}.'
        )
    return Batch(path, model, names)


def _raw(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, by number from 1 on."""
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no file" if path.exists() else "not there"
            raise UserError(f"{path} is {what}.", "Give a file with one request a line: it is read more than once.")
        with path.open("rb") as file:
            for number, raw in enumerate(_bounded(file), 1):
                text = raw.removeprefix(BOM) if number == 1 else raw
                if len(text.rstrip(b"\r\n")) > MOST_BYTES or (text := text.strip()):  # blanks make no long line short
                    yield number, text
    except OSError as error:
        raise UserError(f"{path} can't be read: {(error.strerror or str(error)).lower()}.", "") from None


def _bounded(file: BinaryIO) -> Iterator[bytes]:
    """Its lines; of one that is too long the beginning, a byte more than may be."""
    while raw := file.readline(MOST_BYTES + 1):
        yield raw
        while len(raw) > MOST_BYTES and not raw.endswith(b"\n"):
            raw = file.readline(MOST_BYTES + 1)


def _name(number: int, raw: bytes) -> str:
    return f"batch_req_{number}_{blake2b(raw, digest_size=8).hexdigest()}"


def _read(number: int, raw: bytes, model: str | None) -> Line | BadLine:
    name, custom_id = _name(number, raw), None
    if len(raw) > MOST_BYTES:
        return BadLine(number, name, None, f"line {number}: it has more than {MOST_BYTES >> 20} MiB.")
    try:
        given = _DECODER.decode(raw.decode())
        if isinstance(given, dict) and isinstance(given.get("custom_id"), str):
            custom_id = given["custom_id"][:LONGEST_ID]
        return _line(number, name, given, model)
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    except RecursionError:
        why = "its lists and objects are too deep"
    except json.JSONDecodeError as error:
        why = f"it is no JSON: {error.msg} (column {error.colno})"
    except ValueError as error:
        why = str(error)
    return BadLine(number, name, custom_id, f"line {number}: {why}.")


def _line(number: int, name: str, given: Any, model: str | None) -> Line:
    """ValueError says what is wrong with it."""
    if not isinstance(given, dict):
        raise ValueError("it is no JSON object")
    if unknown := [field for field in given if field not in FIELDS]:
        raise ValueError(f"`{unknown[0][:80]}` is none of its fields ({', '.join(FIELDS)})")
    if missing := [field for field in FIELDS if field not in given]:
        raise ValueError(f"`{missing[0]}` is missing")
    custom_id, method, url, body = (given[field] for field in FIELDS)
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_ID:
        raise ValueError(f"`custom_id` must be a text of 1 to {LONGEST_ID} characters")
    if method != "POST":
        raise ValueError(f"`method` is {_shown(method)}; it must be POST")
    if url not in URLS:
        raise ValueError(f"`url` is {_shown(url)}; it must be one of {', '.join(URLS)}")
    if not isinstance(body, dict):
        raise ValueError("`body` must be a JSON object")
    if body.get("stream"):
        raise ValueError("`body.stream` can't be true: an answer is written when it is whole")
    if model is not None:
        body = {**body, "model": model}
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise ValueError("`body.model` must name a service; --model names one for all lines")
    return Line(number, name, custom_id, url, body)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=finite)
