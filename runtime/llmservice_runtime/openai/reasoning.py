"""Thinking before the answer, told apart from it."""

from __future__ import annotations

from llmservice_runtime.openai.reasoning_formats import ReasoningFormat
from llmservice_runtime.openai.tool_formats import swallow


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

    def __init__(self, fmt: ReasoningFormat, thinking: bool) -> None:
        self._format = fmt
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
        thought, before = "", None
        while self._state != "content" and before != (self._state, len(self._buffer)):
            before = (self._state, len(self._buffer))
            if self._state == "start":
                self._open()
            else:
                thought += self._think()
        return thought, self._content() if self._state == "content" else ""

    def finish(self) -> tuple[str, str]:
        """The end of the answer: what was held back, on its side."""
        rest, self._buffer = self._buffer, ""
        if self._state == "thinking":
            return rest.rstrip() if not self._strip else rest.strip(), ""
        return "", rest.lstrip() if self._strip else rest

    def _open(self) -> None:
        for markup, state in ((self._format.open, "thinking"), (self._format.plain, "content")):
            end = swallow(self._buffer, markup) if markup else -1
            if end is None:
                return
            if end >= 0:
                self._buffer, self._state, self._strip = self._buffer[end:], state, True
                return
        self._state = "content"

    def _think(self) -> str:
        if self._strip:
            self._buffer = self._buffer.lstrip()
            self._strip = not self._buffer
        at, end = self._end()
        if end is not None:
            thought = self._buffer[:at].rstrip()
            self._buffer, self._strip = self._buffer[end:], True
            self._state = "start" if self._format.plain else "content"
            return thought
        # White space before the closing marker, and a part of the marker, wait for what follows.
        safe = self._buffer[:at].rstrip()
        self._buffer = self._buffer[len(safe) :]
        return safe

    def _end(self) -> tuple[int, int | None]:
        """Where the closing marker begins, or may begin, and where it ends once that is known."""
        first, at = self._format.first, 0
        while (at := self._buffer.find(first, at)) >= 0:
            end = swallow(self._buffer, self._format.close, at)
            if end is None or end >= 0:
                return at, end
            at += len(first)
        return len(self._buffer) - held(self._buffer, first), None

    def _content(self) -> str:
        if self._strip:
            self._buffer = self._buffer.lstrip()
            self._strip = not self._buffer
        text, self._buffer = self._buffer, ""
        return text
