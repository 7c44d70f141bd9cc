"""Tool calls out of an answer's text, as it comes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from llmservice_runtime.openai.reasoning import held
from llmservice_runtime.openai.tool_formats import ToolFormat


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call begins: its id and name are said here and nowhere else."""

    index: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of the call's arguments, JSON text."""

    index: int
    text: str


ToolEvent = Content | CallStart | CallArguments

HEAD = re.compile(r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\S)')
BRACES = re.compile(r'["\\{}\[\]]')


class ToolParser:
    """One answer. States: text, between calls, the head of a call, its arguments, its closing brace."""

    def __init__(self, fmt: ToolFormat) -> None:
        self.calls = 0
        self._format = fmt
        self._state = self._start if fmt.bare else self._text
        self._buffer = ""
        self._said = False
        self._depth = 0
        self._in_string = False

    def feed(self, text: str) -> list[ToolEvent]:
        """Events that this text completes."""
        self._buffer += text
        events: list[ToolEvent] = []
        while self._buffer and self._state(events):
            pass
        return events

    def finish(self) -> list[ToolEvent]:
        """The end of the answer: text that was held back. A call whose head never came is text too."""
        rest, self._buffer = self._buffer, ""
        if self._state in (self._between, self._tail):
            return []
        return [Content(rest)] if rest else []

    # Each state takes what it can from the buffer; True = it moved on, False = it needs more text.

    def _start(self, _: list[ToolEvent]) -> bool:
        start = self._buffer.lstrip()
        if not start:
            return False
        self._state = self._between if start[0] == "{" else self._text
        return True

    def _text(self, events: list[ToolEvent]) -> bool:
        before, found, after = self._buffer.partition(self._format.begin)
        if found:
            if before.strip() or (self._said and before):
                events.append(Content(before))
            self._buffer, self._state = after, self._between
            return True
        safe = before[: len(before) - held(before, self._format.begin)]
        if safe.strip() or self._said:
            self._said = True
            self._buffer = before[len(safe) :]
            if safe:
                events.append(Content(safe))
        return False

    def _between(self, _: list[ToolEvent]) -> bool:
        self._buffer = self._buffer.lstrip()
        for marker in (self._format.begin, self._format.end):
            if marker and self._buffer.startswith(marker):
                self._buffer = self._buffer[len(marker) :]
                return True
            if marker and self._buffer and marker.startswith(self._buffer):
                # "[" may also open Mistral's list: more text decides.
                return False
        if self._buffer[:1] in tuple("[],;"):
            self._buffer = self._buffer[1:]
            return True
        if self._buffer:
            self._state = self._head if self._buffer[0] == "{" else self._text
        return bool(self._buffer)

    def _head(self, events: list[ToolEvent]) -> bool:
        match = HEAD.match(self._buffer)
        if match is None:
            return False
        events.append(CallStart(self.calls, self._format.new_id(), json.loads(match[1])))
        self._buffer = self._buffer[match.end() :]
        self._depth, self._in_string = 0, False
        self._state = self._arguments
        self.calls += 1
        return True

    def _arguments(self, events: list[ToolEvent]) -> bool:
        end = self._end_of_value()
        if piece := self._buffer[:end]:
            events.append(CallArguments(self.calls - 1, piece))
        closed = self._depth == 0 and not self._in_string and piece[-1:] in ("}", "]")
        self._buffer = self._buffer[end:]
        if closed:
            self._state = self._tail
        return closed

    def _end_of_value(self) -> int:
        """How much of the buffer belongs to the arguments; a backslash at its end waits for what it escapes."""
        at = 0
        while found := BRACES.search(self._buffer, at):
            at = found.end()
            char = found[0]
            if self._in_string:
                if char == "\\":
                    if at == len(self._buffer):
                        return found.start()
                    at += 1
                elif char == '"':
                    self._in_string = False
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return at
        return len(self._buffer)

    def _tail(self, _: list[ToolEvent]) -> bool:
        self._buffer = self._buffer.lstrip()
        if self._buffer[:1] == "}":
            self._buffer = self._buffer[1:]
            self._state = self._between
        elif self._buffer:
            self._state = self._between
        return bool(self._buffer)
