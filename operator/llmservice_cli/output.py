"""Output of commands that act: it neither fails nor waits, because what is printed must not decide what is done.

`| head` ends, a disk is full, a terminal is closed or stopped with Ctrl-S: the work goes on, and lines that nobody took
are counted.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

HELD_BYTES = 1 << 20
"""What a reader that stands still may leave unread here; what comes beyond it is dropped."""
LAST_SECONDS = 2.0
"""At the end a reader that takes nothing is waited for so long."""


class Output:
    """In the place of a text stream: a thread of its own writes what is written here, in the same order."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._held: deque[bytes] = deque()
        self._size = self._taken = self._lost = 0
        self._writing = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="output")

    def write(self, text: str) -> int:
        """Hand text over; never fails."""
        data = text.encode(self._stream.encoding or "utf-8", errors="replace")
        with self._changed:
            if self._size + len(data) > HELD_BYTES:
                self._lost += data.count(b"\n")
            elif data:
                self._held.append(data)
                self._size += len(data)
                if not self._thread.ident:
                    self._thread.start()
                self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Nothing to do: what was written is on its way."""

    def finish(self, seconds: float = LAST_SECONDS) -> None:
        """Wait until everything is out, as long as the reader takes something every so many seconds."""
        with self._changed:
            while self._size:
                before = self._taken
                self._changed.wait_for(lambda: not self._size or self._taken != before, seconds)  # noqa: B023
                if self._taken == before:
                    return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held)
                data, lost = self._held.popleft(), self._lost
                self._lost = 0
            if lost:
                data = f"[{lost} lines were lost: nobody took them]\n".encode() + data
            out = self._put(data)
            with self._changed:
                self._size = sum(map(len, self._held))
                self._taken += 1
                self._lost += 0 if out else lost + data.count(b"\n") - bool(lost)
                self._changed.notify_all()

    def _put(self, data: bytes) -> bool:
        """Whether it was written. The next piece is tried in any case: a full disk may have room again."""
        try:
            fd = self._stream.fileno()
        except (OSError, ValueError):  # not a file: a test's
            self._stream.write(data.decode(errors="replace"))
            return True
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:  # whoever has the same terminal or pipe made it so
                select.select([], [fd], [])
            except OSError:
                return False
        return True


@contextlib.contextmanager
def unfailing() -> Iterator[Callable[[], None]]:
    """Within it, standard output and error are Outputs; gives what waits for the last words, before an `os._exit`."""
    before = sys.stdout, sys.stderr
    made = [Output(stream) for stream in before]

    def finish() -> None:
        for output in made:
            output.finish()

    for stream in before:
        with contextlib.suppress(OSError):
            stream.flush()
    sys.stdout, sys.stderr = cast(list[TextIO], made)
    try:
        yield finish
    finally:
        sys.stdout, sys.stderr = before
        finish()
