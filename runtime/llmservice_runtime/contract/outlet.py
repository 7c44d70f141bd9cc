"""What a program tells people, to whom it never waits: a reader that stalls loses lines, not the service."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque

LIMIT_BYTES = 1 << 20
FLUSH_SECONDS = 1.0


class Outlet:
    """Writes to the descriptor `fd` from a thread of its own. Any thread may call its methods; none waits for a reader.

    Of what nobody reads `limit` bytes are kept; what comes beyond is dropped, counted, and told once it goes on. A
    reader that has gone away is not missed.
    """

    def __init__(self, fd: int, limit: int = LIMIT_BYTES) -> None:
        self._fd = fd
        self._limit = limit
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._gone = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Bytes that were never written and not told of yet."""

    def write(self, data: bytes) -> None:
        """Have it written, or drop it; at once in any case."""
        with self._changed:
            if self._gone or not data:
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
        """Wait until all is written, at most so long; whether it is."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._size and not self._gone:
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    return False
        return True

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                data, told = self._waiting.popleft(), 0
                if self.dropped and not self._waiting:
                    told, self.dropped = self.dropped, 0
            gone = not self._written(data)
            if told:
                self._written(f"\n... {told} bytes of log were dropped here: nobody read them.\n".encode())
            with self._changed:
                self._size -= len(data)
                self._gone = gone
                self._changed.notify_all()
            if gone:
                return

    def _written(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                time.sleep(0.05)  # somebody made it non-blocking, for all who share it
            except BrokenPipeError:
                return False
            except OSError:  # a full disk may have room again
                self.dropped += len(view)
                return True
        return True


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
