"""Bytes of tokens to text of an answer: whole characters only, and never a piece of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Text of one answer as it grows. Holds back what may still become a stop string or a character."""

    __slots__ = ("_decoder", "_held", "_include", "_stops", "stopped_by")

    def __init__(self, stops: Sequence[str] = (), include_stop: bool = False) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._include = include_stop
        self._held = ""
        self.stopped_by: str | None = None

    def push(self, piece: bytes, armed: bool = True) -> str:
        """Text that is certain now. After it, `stopped_by` says whether a stop string ended the answer.

        `armed` False lets a stop string pass (min_tokens is not reached).
        """
        text = self._decoder.decode(piece)
        if not self._stops:
            return text
        text = self._held + text
        self._held = ""
        if not armed:
            return text
        if (found := self._first_stop(text)) is not None:
            self.stopped_by = found
            end = text.index(found) + (len(found) if self._include else 0)
            return text[:end]
        keep = self._possible(text)
        if keep:
            self._held = text[-keep:]
            return text[:-keep]
        return text

    def flush(self) -> str:
        """The rest, at the end of an answer that no stop string ended."""
        text = self._held + self._decoder.decode(b"", True)
        self._held = ""
        return text

    def _first_stop(self, text: str) -> str | None:
        """The stop string that begins first (the longest of those)."""
        found = [(text.index(stop), -len(stop), stop) for stop in self._stops if stop in text]
        return min(found)[2] if found else None

    def _possible(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = 0
        for stop in self._stops:
            longest = max(longest, _overlap(text, stop))
        return longest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`; only ends with its first character are compared."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0 and not stop.startswith(text[at:]):
        at = text.find(stop[0], at + 1)
    return len(text) - at if at >= 0 else 0
