"""Text from strangers, fit to be shown: names, headers and answers hold what would move a cursor or fake a line.

Escapes are JSON's, so that a JSON text stays one with the same meaning.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO, cast

STANDARD_OUTPUT = "standard output"
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
_UNFIT = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible, or turn the direction
    "\ud800-\udfff\U000e0000-\U000e0fff"  # halves of pairs, tags
)
_LINES = re.compile(f"[{_UNFIT}\u2028\u2029]")
_BREAKS = re.compile(r"[\t\n\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029]+")


def plain(text: str) -> str:
    """`text` in one line: breaks and tabs are spaces, control characters are written out (`\\u001b`)."""
    return text if text.isprintable() else plain_lines(_BREAKS.sub(" ", text))


def plain_lines(text: str) -> str:
    """`text` with its lines and tabs; colours are left out, other control characters written out."""
    if not _LINES.search(text):
        return text
    return _LINES.sub(_escape, _COLOURS.sub("", text))


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


class PlainStream:
    """A stream that shows nothing but lines of text; `raw` is the one below, for progress that draws. `name` is what an
    OSError of writing to it has as its file."""

    def __init__(self, raw: TextIO, name: str = "") -> None:
        self.raw = raw
        self._name = name

    def write(self, text: str) -> int:
        """Write it, fit to be shown and for the stream's encoding."""
        shown = plain_lines(text)
        with self._named():
            try:
                self.raw.write(shown)
            except UnicodeEncodeError:
                encoding = self.raw.encoding
                self.raw.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """What was written is out."""
        with self._named():
            self.raw.flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = error.filename or self._name or None
            raise

    def __getattr__(self, name: str) -> object:
        return getattr(self.raw, name)


def raw(stream: TextIO) -> TextIO:
    """The stream below a PlainStream."""
    return stream.raw if isinstance(stream, PlainStream) else stream


@contextmanager
def plain_output() -> Iterator[None]:
    """What is printed inside is fit to be shown."""
    out, err = PlainStream(raw(sys.stdout), STANDARD_OUTPUT), PlainStream(raw(sys.stderr), "standard error")
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        yield
