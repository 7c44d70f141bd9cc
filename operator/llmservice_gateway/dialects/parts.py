"""An answer as parts, one after the other: thinking, text, calls. Each ends before the next one begins.

Chat may tell of several calls in turns; the protocols here tell one to its end. What belongs to a later call is kept
until the one that is being told is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from io import StringIO

from llmservice_gateway.dialects.pieces import CallBegun, CallGrew, Json, Piece, Text, Thought

MOST = 16 << 20
"""Characters of one answer: four times what a context of a million tokens holds."""
CALL = 1000
"""A call counts for so many of them, beside its name and its arguments."""
LOOKS = 100
"""An open call is read so often at most while another one waits: beyond that it is told when all has come."""


class Kind(StrEnum):
    """What a part is."""

    THINKING = "thinking"
    TEXT = "text"
    CALL = "call"


@dataclass(slots=True)
class Part:
    """The `number`-th part of an answer, as far as it has come. `text` of a call: its arguments, as JSON."""

    number: int
    kind: Kind
    call_id: str = ""
    name: str = ""
    text: str = ""
    logprobs: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PartBegun:
    """A part begins; nothing is in it yet."""

    part: Part


@dataclass(frozen=True, slots=True)
class PartGrew:
    """A part has more; it is in `part` already."""

    part: Part
    text: str
    logprobs: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class PartEnded:
    """A part is whole."""

    part: Part


PartEvent = PartBegun | PartGrew | PartEnded


class TooMuchError(ValueError):
    """An answer of more than MOST characters."""


class Parts:
    """Puts pieces in order. `end` once nothing more comes. Both raise TooMuchError."""

    def __init__(self) -> None:
        self._open: Part | None = None
        self._call = -1
        """The number of the call that is open, as chat counts; -1 = none is."""
        self._said = StringIO()
        self._looks = 0
        """How often it was looked whether the open call is whole."""
        self._begun = 0
        self._size = 0
        self._later: dict[int, tuple[CallBegun, list[str]]] = {}
        """Calls that wait, with their arguments so far."""

    def add(self, piece: Piece) -> Iterator[PartEvent]:
        """What follows from one piece."""
        match piece:
            case Thought(text):
                yield from self._grow(Kind.THINKING, text)
            case Text(text, logprobs):
                yield from self._grow(Kind.TEXT, text, logprobs)
            case CallBegun(number, call_id, name):
                self._count(CALL + len(call_id) + len(name))
                self._later[number] = (piece, [])
                yield from self._switched()
            case CallGrew(number, text) if number == self._call:
                yield self._more(text)
                yield from self._switched()
            case CallGrew(number, text) if number in self._later:
                self._count(len(text))
                self._later[number][1].append(text)
            case _:
                pass

    def end(self) -> Iterator[PartEvent]:
        """The rest: what is open, and calls that waited, whole or not."""
        while self._later:
            yield from self._switch()
        yield from self._close()

    def _grow(self, kind: Kind, text: str, logprobs: tuple[Json, ...] = ()) -> Iterator[PartEvent]:
        if self._open is None or self._open.kind is not kind:
            yield from self.end()
            yield self._begin(Part(self._begun, kind))
        yield self._more(text, logprobs)

    def _switched(self) -> Iterator[PartEvent]:
        """Calls that waited, as far as what is open lets them."""
        while self._later and (self._call < 0 or self._whole()):
            yield from self._switch()

    def _switch(self) -> Iterator[PartEvent]:
        yield from self._close()
        self._call = next(iter(self._later))
        begun, texts = self._later.pop(self._call)
        yield self._begin(Part(self._begun, Kind.CALL, begun.call_id, begun.name))
        for text in texts:
            self._size -= len(text)  # it was counted when it came
            yield self._more(text)

    def _begin(self, part: Part) -> PartBegun:
        self._open, self._said, self._looks = part, StringIO(), 0
        self._begun += 1
        return PartBegun(part)

    def _more(self, text: str, logprobs: tuple[Json, ...] = ()) -> PartGrew:
        assert self._open is not None
        self._count(len(text))
        self._said.write(text)
        self._open.logprobs += logprobs
        return PartGrew(self._open, text, logprobs)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MOST:
            raise TooMuchError

    def _close(self) -> Iterator[PartEvent]:
        if self._open is not None:
            part, self._open, self._call = self._open, None, -1
            part.text = self._said.getvalue()
            yield PartEnded(part)

    def _whole(self) -> bool:
        """Whether the arguments of the open call are all there."""
        self._looks += 1
        if self._looks > LOOKS:
            return False
        try:
            json.loads(self._said.getvalue())
        except (ValueError, RecursionError):
            return False
        return True
