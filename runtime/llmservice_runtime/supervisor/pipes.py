"""Reading a child's pipes from the event loop, line by line, with bounded memory."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

CHUNK_BYTES = 64 * 1024
LINE_BYTES = 64 * 1024
"""A longer line is cut."""


class LinePipe:
    """Owns the read end `fd`; calls `on_line` per line (without its end) and `on_chunk` with the raw bytes."""

    def __init__(
        self, fd: int, on_line: Callable[[bytes], None], on_chunk: Callable[[bytes], None] | None = None
    ) -> None:
        self._fd = fd
        self._on_line = on_line
        self._on_chunk = on_chunk
        self._rest = b""
        os.set_blocking(fd, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._readable)

    def close(self) -> None:
        """Take what is still in the pipe, then close it."""
        while self._readable():
            pass
        if self._fd >= 0:
            self._end()

    def _readable(self) -> bool:
        """One read; false when there is nothing more now."""
        if self._fd < 0:
            return False
        try:
            chunk = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._end()
            return False
        if self._on_chunk is not None:
            self._on_chunk(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._on_line(line[:LINE_BYTES])
        self._rest = self._rest[:LINE_BYTES]
        return True

    def _end(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self._rest:
            self._on_line(self._rest)
            self._rest = b""


class Tail:
    """Keeps the last lines of a child's output for the failure message."""

    def __init__(self, lines: int = 160, characters: int = 500) -> None:
        self.tail: deque[str] = deque(maxlen=lines)
        self._characters = characters

    def line(self, line: bytes) -> None:
        """Remember one line."""
        self.tail.append(line[: self._characters * 4].decode(errors="replace")[: self._characters])


def watch_lifeline(fd: int, on_eof: Callable[[], None]) -> None:
    """Call `on_eof` once when the far end of `fd` closes, however its owner died."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)

    def readable() -> None:
        try:
            if os.read(fd, 1):
                return
        except BlockingIOError:
            return
        loop.remove_reader(fd)
        on_eof()

    loop.add_reader(fd, readable)
