"""Sequential reading of a header through range reads, with a bound on what is fetched."""

from __future__ import annotations

from collections.abc import Callable

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.formats.errors import UnsupportedModel

Fetch = Callable[[int, int], bytes]
"""(start, length) -> bytes of one file, fewer at its end."""

FIRST_BYTES = 256 << 10
"""The first range: enough for most headers."""
NEXT_BYTES = 4 << 20
HEADER_LIMIT = 128 << 20
"""No header is larger: the largest vocabularies take about 20 MiB."""


CORRECT = "Correct it in a copy of the model, or ask its publisher."


def damaged(what: str, remedy: str = "Download the file again, or ask its publisher.") -> UnsupportedModel:
    """The error of files that are cut, contradictory or hostile."""
    return UnsupportedModel(what, remedy, FailureClass.MODEL_DAMAGED)


def impossible(file: str, key: str, value: object) -> UnsupportedModel:
    """The error of a value that no model can have."""
    return damaged(f"{file} has the impossible value {repr(value)[:60]} for {key}.", CORRECT)


def contradictory(what: str) -> UnsupportedModel:
    """The error of values that do not go together."""
    return damaged(what, CORRECT)


class HeaderReader:
    """A cursor over the start of a file. Never fetches more than HEADER_LIMIT bytes, keeps one window of them.

    Raises UnsupportedModel where the file ends before the header does.
    """

    def __init__(self, fetch: Fetch, size: int, name: str) -> None:
        self.name = name
        self.size = size
        self._fetch = fetch
        self._window = b""
        self._start = 0
        self._at = 0
        self._fetched = 0

    @property
    def position(self) -> int:
        """Offset in the file of the next byte."""
        return self._start + self._at

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        self._need(length)
        at = self._at
        self._at = at + length
        return self._window[at : self._at]

    def skip(self, length: int) -> None:
        """Move on; bytes outside of the window are not fetched."""
        if length > self.size - self.position:
            raise self._cut()
        self._at += length
        if self._at > len(self._window):
            self._start, self._window, self._at = self.position, b"", 0

    def skip_strings(self, count: int, width: int = 8) -> None:
        """Move over `count` strings, each a little-endian length of `width` bytes and that many bytes."""
        while count:
            self._need(width)
            window, at, end = self._window, self._at, len(self._window) - width
            number = int.from_bytes
            while count and at <= end:
                at += width + number(window[at : at + width], "little")
                count -= 1
            self._at = 0 if at > len(window) else at
            if at > len(window):
                self._start, self._window = self._start + at, b""
                if self._start > self.size:
                    raise self._cut()

    def _need(self, length: int) -> None:
        if self._at + length <= len(self._window):
            return
        position = self.position
        if length > self.size - position:
            raise self._cut()
        ahead = FIRST_BYTES if self._fetched == 0 else NEXT_BYTES
        wanted = min(max(length, ahead), self.size - position)
        if self._fetched + length > HEADER_LIMIT:
            raise damaged(f"the header of {self.name} is larger than {HEADER_LIMIT >> 20} MiB.")
        self._window, self._start, self._at = self._fetch(position, wanted), position, 0
        self._fetched += len(self._window)
        if len(self._window) < length:
            raise self._cut()

    def _cut(self) -> UnsupportedModel:
        return damaged(f"{self.name} is cut off or damaged: its header goes on after the end of the file.")
