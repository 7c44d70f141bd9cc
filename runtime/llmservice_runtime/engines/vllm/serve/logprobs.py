"""Log-probabilities that belong to the text: joined, their tokens are the content.

vLLM tells those of all tokens: of what ended the answer, of stop strings, thinking and tool calls too. Only answers to
requests that ask for log-probabilities come here, event by event.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from llmservice_runtime.wire import sse

Json = dict[str, Any]
LISTS = ("tokens", "token_logprobs", "top_logprobs")
"""Of the legacy shape, beside `text_offset`."""
BROKEN = "\ufffd"
"""What a text has where bytes are no character."""
BEFORE, TOGETHER = 8, 256
"""Characters of a text's beginning where tokens are of that: a little else, then as many of these at most. What is
looked at is bounded, as the loop of all requests waits meanwhile."""
LONGEST = 4
"""Characters of a text that one of these in a token may be."""
UNREADABLE = re.compile(f"^.{{0,{BEFORE}}}?{BROKEN}{{1,{TOGETHER}}}", re.DOTALL)
_RUN = re.compile(f"{BROKEN}{{1,{TOGETHER}}}")
_PIECES = re.compile(f"{BROKEN}+|[^{BROKEN}]+")


class Belonging:
    """The positions of one answer's text: what came is matched to it in order. A token that is a part of a character
    has no text in vLLM, and the last of them all of it; where the parts make none, the next token has what the text
    shows for them."""

    def __init__(self) -> None:
        self._positions: deque[tuple[str, Any]] = deque()
        self._text = ""
        """What has no tokens yet."""
        self._dropped: Any = None
        """What is told of the last token that was no text of the answer."""

    def feed(self, positions: list[tuple[str, Any]], text: str) -> list[tuple[str, Any]]:
        """Positions (token, what is told of it) that this text completes."""
        self._positions += positions
        self._text += text
        found = []
        while self._positions and (self._text or not self._positions[0][0]):
            token, told = self._positions[0]
            if (end := _end_of(token, self._text)) is not None:
                found.append((self._text[:end], told))
                self._text = self._text[end:]
            elif token.startswith((self._text, UNREADABLE.sub("", self._text))):
                break  # more text decides, or the end
            else:  # thinking, markup of a call
                self._dropped = told
            self._positions.popleft()
        return found

    def finish(self) -> list[tuple[str, Any]]:
        """The end of the answer: a last token that a stop string cut. Or one that was not known in a broken text."""
        told = self._positions[0][1] if self._positions else self._dropped
        return [(self._text, told)] if self._text and told is not None else []


def _end_of(token: str, text: str) -> int | None:
    """Where it ends in the text that begins with it; None = that does not. Beside a broken character a token alone may
    be other characters than the text has there."""
    if text.startswith(token):
        return len(token)
    if BROKEN not in text and BROKEN not in token:
        return None
    ends = dict.fromkeys(_beginnings(text))  # each place once, the likeliest first: a regular expression tries all ways
    for piece in _PIECES.findall(token):
        if piece.startswith(BROKEN):
            most = LONGEST * len(piece)
            ends = dict.fromkeys(at for end in ends for at in range(end, min(end + most, len(text)) + 1))
        else:
            ends = {end + len(piece): None for end in ends if text.startswith(piece, end)}
    return next(iter(ends), 0) or None


def _beginnings(text: str) -> Iterator[int]:
    """Where a token may begin: where the text does, or behind what is unreadable."""
    yield 0
    for before in range(BEFORE + 1):
        if run := _RUN.match(text, before):
            yield from range(run.end(), before, -1)


class Trimmed:
    """The answer to one request, whole or as a stream. `ids`: those of the legacy shape have their tokens' too."""

    def __init__(self, ids: bool = False) -> None:
        self._ids = ids
        self._answers: dict[int, Belonging] = {}
        self._offsets: dict[int, int] = {}

    def whole(self, body: bytes) -> bytes:
        """A whole answer; one that is no JSON object stays."""
        try:
            found = json.loads(body)
            for choice in found["choices"]:
                self._trim(choice, choice.get("text") or (choice.get("message") or {}).get("content") or "", True)
                if "message" in choice:  # they were asked for, and an answer may have no text
                    choice["logprobs"] = choice["logprobs"] or _content([])
        except (ValueError, KeyError, TypeError):
            return body
        return sse.dumps(found).encode()

    def event(self, event: bytes) -> bytes:
        """One event of a stream; `[DONE]` and comments stay."""
        if not event.startswith(b'data: {"'):
            return event
        found = json.loads(event.removeprefix(b"data: "))
        for choice in found.get("choices", ()):
            text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            self._trim(choice, text, choice.get("finish_reason") is not None)
        return b"data: " + sse.dumps(found).encode() + b"\n\n"

    def _trim(self, choice: Json, text: str, ends: bool) -> None:
        answer = self._answers.setdefault(choice["index"], Belonging())
        told = choice.get("logprobs") or {}
        legacy = "tokens" in told or "text" in choice
        if legacy:
            columns = [told.get(name) or () for name in LISTS]
            columns.append(choice["token_ids"] if told and self._ids else ())  # as many as `tokens`
            positions = [(row[0], row) for row in zip_longest(*columns)]
        else:
            positions = [(entry["token"], entry) for entry in told.get("content") or ()]
        found = answer.feed(positions, text)
        if ends:
            found += answer.finish()
        if legacy:
            choice["logprobs"] = self._legacy(choice["index"], found) if told or found else None
        else:
            choice["logprobs"] = _content([_named(entry, token) for token, entry in found]) if found else None

    def _legacy(self, index: int, found: list[tuple[str, Any]]) -> Json:
        offsets = []
        for token, _ in found:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(token)
        return {
            "text_offset": offsets,
            "token_logprobs": [told[1] for _, told in found],
            "tokens": [token for token, _ in found],
            "top_logprobs": [told[2] for _, told in found],
            **({"token_ids": [told[3] for _, told in found]} if self._ids else {}),
        }


def _content(entries: list[Json]) -> Json:
    return {"content": entries, "refusal": None}


def _named(entry: Json, token: str) -> Json:
    return entry if entry["token"] == token else {**entry, "token": token, "bytes": list(token.encode())}
