"""Bytes of tokens to text of an answer: whole characters only, and never a piece of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Text of one answer as it grows. Holds back what may still become a stop string or a character."""

    __slots__ = ("_decoder", "_held", "_include", "_shield", "_stops", "completed", "stopped_by")

    def __init__(self, stops: Sequence[str] = (), include_stop: bool = False, shield: str = "") -> None:
        """`shield`: from this text on (a tool call begins) no stop string counts any more; empty = none."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._include = include_stop
        self._shield = shield
        self._held = ""
        self.completed = ""
        """Characters that the last push (or the flush) made of bytes, given out or held back."""
        self.stopped_by: str | None = None

    @property
    def open_ended(self) -> bool:
        """Whether the last bytes are a part of a character."""
        return bool(self._decoder.getstate()[0])

    def push(self, piece: bytes, armed: bool = True) -> str:
        """Text that is certain now. After it, `stopped_by` says whether a stop string ended the answer.

        `armed` False lets a stop string pass (min_tokens is not reached).
        """
        text = self.completed = self._decoder.decode(piece)
        if not self._stops:
            return text
        text = self._held + text
        self._held = ""
        if not armed:
            return text
        found, shielded = self._first_stop(text), len(text) - self._possible(text, (self._shield,))
        if self._shield and (at := text.find(self._shield)) >= 0 and (found is None or at <= text.index(found)):
            self._stops = ()
            return text
        if found is not None and text.index(found) < shielded:
            self.stopped_by = found
            end = text.index(found) + (len(found) if self._include else 0)
            return text[:end]
        keep = self._possible(text, (*self._stops, self._shield))
        if keep:
            self._held = text[-keep:]
            return text[:-keep]
        return text

    def flush(self) -> str:
        """The rest, at the end of an answer that no stop string ended."""
        self.completed = self._decoder.decode(b"", True)
        text = self._held + self.completed
        self._held = ""
        return text

    def _first_stop(self, text: str) -> str | None:
        """The stop string that begins first (the longest of those)."""
        found = [(text.index(stop), -len(stop), stop) for stop in self._stops if stop in text]
        return min(found)[2] if found else None

    def _possible(self, text: str, strings: Sequence[str]) -> int:
        """Length of the longest end of `text` that begins one of `strings`."""
        longest = 0
        for stop in strings:
            if stop:
                longest = max(longest, _overlap(text, stop))
        return longest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`; only ends with its first character are compared."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0 and not stop.startswith(text[at:]):
        at = text.find(stop[0], at + 1)
    return len(text) - at if at >= 0 else 0
