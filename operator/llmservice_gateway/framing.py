"""Where the body of an HTTP/1.1 answer ends, and what of its bytes are the body's. Pure."""

from __future__ import annotations

from typing import Protocol

MAX_LINE = 4096
"""Bytes of a chunk's first line, and of all lines after the last chunk."""


DIGITS = b"0123456789abcdefABCDEF"
LINE_END = b"\r\n"


class FramingError(ValueError):
    """Bytes that no HTTP/1.1 server sends."""


class Framing(Protocol):
    """One body. `done`: it is whole; `excess`: bytes that came after it."""

    done: bool
    excess: bool

    def feed(self, data: bytes) -> bytes:
        """What of `data` is the body's. FramingError."""
        ...

    def end(self) -> bool:
        """The connection has ended: whether the body is whole."""
        ...


class Sized:
    """So many bytes (Content-Length)."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = not length
        self.excess = False

    def feed(self, data: bytes) -> bytes:
        body = data[: self._left]
        self.excess = self.excess or len(data) > self._left
        self._left -= len(body)
        self.done = not self._left
        return body

    def end(self) -> bool:
        return self.done


class UntilEnd:
    """All that comes before the connection ends."""

    done = False
    excess = True  # such a connection serves one request

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bool:
        self.done = True
        return True


class Chunked:
    """Transfer-Encoding: chunked. `between`: nothing of a chunk has been read that is not over."""

    def __init__(self) -> None:
        self.done = False
        self.excess = False
        self.between = True
        self._left = 0
        """Of the chunk's bytes and the line end after them; 0 = a chunk's first line comes."""
        self._line = b""
        self._last = False
        """The chunk of size 0 has come: trailers until an empty line."""
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        parts, at = list[bytes](), 0
        while at < len(data) and not self.done:
            end = at + self._left
            if not self._left:
                at = self._read_line(data, at)
            elif self._left >= 2 and data[end - 2 : end] == LINE_END:  # all of it is here, as nearly always
                parts.append(data[at : end - 2])
                self._left = 0
                at = end
            else:
                end = min(end, len(data))
                self._check_end(data, at, end)
                parts.append(data[at : min(end, at + max(0, self._left - 2))])
                self._left -= end - at
                at = end
        self.excess = self.excess or at < len(data)
        self.between = not self._left and not self._line and not self._last
        return b"".join(parts)

    def end(self) -> bool:
        return self.done

    def _check_end(self, data: bytes, start: int, end: int) -> None:
        """A chunk's last two bytes end its line; whoever takes others for them reads the rest otherwise than we do."""
        for place in range(max(start, start + self._left - 2), end):
            if data[place] != LINE_END[place - start - self._left]:
                raise FramingError("a chunk does not end where it says")

    def _read_line(self, data: bytes, at: int) -> int:
        """Where what follows the line begins."""
        end = data.find(b"\n", at)
        line = self._line + data[at : end if end >= 0 else len(data)]
        if len(line) > MAX_LINE:
            raise FramingError("a chunk's first line is too long")
        if end < 0:
            self._line = line
            return len(data)
        self._line = b""
        if self._last:
            self.done = line in (b"", b"\r")
            self._trailers += len(line)
            if self._trailers > MAX_LINE:
                raise FramingError("what follows the last chunk is too long")
            return end + 1
        size = line.partition(b";")[0].strip()
        if not size or size.strip(DIGITS):
            raise FramingError("a chunk has no size")
        length = int(size, 16)
        self._last = not length
        self._left = length + 2 if length else 0
        return end + 1
