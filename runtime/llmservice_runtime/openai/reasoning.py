"""`<think>` blocks: thinking before the answer, told apart from it."""

from __future__ import annotations

OPEN = "<think>"
CLOSE = "</think>"


def held(text: str, marker: str) -> int:
    """How many characters at the end of `text` may be the start of `marker`."""
    for size in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-size:]):
            return size
    return 0


class ReasoningReader:
    """Reads one answer. `thinking` = the prompt itself opened the block, as templates of DeepSeek-R1 do.

    A block counts only at the start of an answer; white space around its ends belongs to neither part.
    """

    def __init__(self, thinking: bool) -> None:
        self._state = "thinking" if thinking else "start"
        self._buffer = ""
        self._strip = thinking

    @property
    def waiting(self) -> int:
        """Characters that are held back: a marker may follow, or white space that belongs to no part."""
        return len(self._buffer)

    def feed(self, text: str) -> tuple[str, str]:
        """(reasoning, content) that this text completes."""
        if self._state == "content" and not self._strip:
            return "", text
        self._buffer += text
        if self._state == "start":
            self._open()
        thought = self._think() if self._state == "thinking" else ""
        return thought, self._content() if self._state == "content" else ""

    def finish(self) -> tuple[str, str]:
        """The end of the answer: what was held back, on its side."""
        rest, self._buffer = self._buffer, ""
        if self._state == "thinking":
            return rest.rstrip() if not self._strip else rest.strip(), ""
        return "", rest if self._state == "start" else rest.lstrip()

    def _open(self) -> None:
        start = self._buffer.lstrip()
        if start.startswith(OPEN):
            self._buffer = start[len(OPEN) :]
            self._state, self._strip = "thinking", True
        elif start and not OPEN.startswith(start):
            self._state, self._strip = "content", False

    def _think(self) -> str:
        if self._strip:
            self._buffer = self._buffer.lstrip()
            self._strip = not self._buffer
        thought, found, rest = self._buffer.partition(CLOSE)
        if found:
            self._buffer, self._state, self._strip = rest, "content", True
            return thought.rstrip()
        # White space before the closing marker, and a part of the marker, wait for what follows.
        safe = thought[: len(thought) - held(thought, CLOSE)].rstrip()
        self._buffer = thought[len(safe) :]
        return safe

    def _content(self) -> str:
        if self._strip:
            self._buffer = self._buffer.lstrip()
            self._strip = not self._buffer
        text, self._buffer = self._buffer, ""
        return text
