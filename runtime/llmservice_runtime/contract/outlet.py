"""What a program tells people, to whom it never waits: a reader that stalls loses lines, not the service."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque

LIMIT_BYTES = 1 << 20
FLUSH_SECONDS = 1.0


class Outlet:
    """Writes to the descriptor `fd` from a thread of its own. Any thread may call its methods; none waits for a reader.

    Of what nobody reads `limit` bytes are kept; what comes beyond is dropped, and so is what can't be written (a full
    disk, a reader that has gone). It is counted, and told where it is missing once it goes on: a disk may have room
    again.
    """

    def __init__(self, fd: int, limit: int = LIMIT_BYTES) -> None:
        self._fd = fd
        self._limit = limit
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Bytes for which there was no room and that were not told of yet."""

    def write(self, data: bytes) -> None:
        """Have it written, or drop it; at once in any case."""
        with self._changed:
            if not data:
                return
            if self._size + len(data) > self._limit:
                self.dropped += len(data)
                return
            self._waiting.append(data)
            self._size += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"outlet-{self._fd}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until all is written or given up, at most so long; whether it is."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._size:
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    return False
        return True

    def _run(self) -> None:
        failed = 0
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                data = self._waiting.popleft()
            failed = self._put(failed, data)
            with self._changed:
                dropped = 0 if self._waiting else self.dropped
                self.dropped -= dropped
            if dropped:
                failed = self._put(failed + dropped, b"")
            with self._changed:
                self._size -= len(data)
                self._changed.notify_all()

    def _put(self, missing: int, data: bytes) -> int:
        """Write `data`, after saying that so many bytes are missing; how many are missing then."""
        note = f"\n... {missing} bytes were dropped here: nobody took them.\n".encode() if missing else b""
        view = memoryview(note + data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody made it non-blocking, for all who share it
                select.select([], [self._fd], [])
            except OSError:
                return len(view) if len(view) <= len(data) else missing + len(data)
        return 0


class OutletHandler(logging.Handler):
    """Python's log through an outlet."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits, never raises."""
        try:
            self._outlet.write(self.format(record).encode(errors="replace") + b"\n")
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """At the end of the process: a moment for the last lines."""
        self._outlet.flush()
