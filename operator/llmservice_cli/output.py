"""Output of commands that act: it neither fails nor waits, because what is printed must not decide what is done.

`| head` ends, a disk is full, a terminal is closed or stopped with Ctrl-S: the work goes on, and what nobody took is
counted.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from llmservice_runtime.contract.outlet import Outlet
from llmservice_runtime.contract.plain import plain_lines

LAST_SECONDS = 2.0
"""At the end a reader that stands still is waited for so long."""


class Output:
    """In the place of a text stream: what is written here goes through an outlet. OSError where it is no file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._outlet = Outlet(stream.fileno())

    def write(self, text: str) -> int:
        """Hand text over, fit to be shown; never fails."""
        self._outlet.write(plain_lines(text).encode(self._stream.encoding or "utf-8", errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Nothing to do: what was written is on its way."""

    def finish(self) -> None:
        """Wait until everything is out, for a moment."""
        self._outlet.flush(LAST_SECONDS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def unfailing() -> Iterator[Callable[[], None]]:
    """Within it, standard output and error are Outputs; gives what waits for the last words, before an `os._exit`."""
    before = sys.stdout, sys.stderr
    for stream in before:
        with contextlib.suppress(OSError):
            stream.flush()
    try:
        made = [Output(stream) for stream in before]
    except OSError:  # not files: a test's, which neither fail nor wait
        yield lambda: None
        return

    def finish() -> None:
        for output in made:
            output.finish()

    sys.stdout, sys.stderr = cast(list[TextIO], made)
    try:
        yield finish
    finally:
        sys.stdout, sys.stderr = before
        finish()
