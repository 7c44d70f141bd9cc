"""What a person types: edited lines, messages of several lines between triple quotes, and a history that is kept."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

PROMPT, MORE = ">>> ", "... "
QUOTES = '"""'
KEPT = 1000
"""Lines of history."""
FILE = "chat_history"
"""In the state folder."""


class Lines:
    """Reads from the terminal. `history` is the file, readable by this user alone; one that can't be written is done
    without."""

    def __init__(self, history: Path) -> None:
        self._file = history
        self._readline = _readline()
        if self._readline is not None:
            self._readline.set_history_length(KEPT)
            with contextlib.suppress(OSError):
                self._readline.read_history_file(history)

    def keep_history(self, keep: bool) -> None:
        """Whether what is typed from now on can be found again."""
        if self._readline is not None:
            self._readline.set_auto_history(keep)

    def read(self) -> str | None:
        """A message, without its quotes; None = the input ended. KeyboardInterrupt as `input`."""
        before = self._length()
        try:
            return self._message()
        except EOFError:
            return None
        finally:
            self._keep(self._length() - before)

    def _message(self) -> str:
        text = input(PROMPT)
        while text.count(QUOTES) % 2:
            text += "\n" + input(MORE)
        return text.replace(QUOTES, "").strip()

    def _length(self) -> int:
        return 0 if self._readline is None else int(self._readline.get_current_history_length())

    def _keep(self, lines: int) -> None:
        """At once, as a terminal may be closed at any time."""
        if self._readline is None or lines <= 0:
            return
        with contextlib.suppress(OSError):
            os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._readline.append_history_file(lines, self._file)


def _readline() -> Any:
    """The module, which makes `input` edit lines; None where Python was built without it."""
    try:
        import readline
    except ImportError:
        return None
    return readline if hasattr(readline, "append_history_file") else None
