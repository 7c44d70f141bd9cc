"""Tool calls out of an answer's text, as it comes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmservice_runtime.openai.reasoning import held
from llmservice_runtime.openai.requests.chat import Tool
from llmservice_runtime.openai.tool_formats import Pairs, ToolFormat, swallow
from llmservice_runtime.openai.tool_values import ANY, read_value, schemas


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the user."""

    text: str
    at: int = field(default=0, compare=False)
    """Where it begins in the text that was read, in characters."""


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

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}(?=[^A-Za-z0-9_.-])")
PART_OF_NAME = re.compile(r"[A-Za-z0-9_.-]{0,64}\Z")
BRACES = re.compile(r'["\\{}\[\]]')


class ToolParser:
    """One answer. States: text, the head of a call, its arguments (JSON, or pairs), its tail, between calls."""

    def __init__(self, fmt: ToolFormat, tools: Sequence[Tool] = ()) -> None:
        self.calls = 0
        self.at = 0
        """Characters of the answer that are told or dropped; what stands from here on is not decided."""
        self._format = fmt
        self._schemas = schemas(tools)
        self._state = self._start if fmt.bare else self._text
        self._before = fmt.open + fmt.head
        """Markup before the next name."""
        self._buffer = ""
        self._said = False
        self._closed = True
        self._depth = 0
        self._in_string = False
        self._name = self._key = ""
        self._is_text: bool | None = None
        self._pairs = 0

    @property
    def untouched(self) -> bool:
        """Whether it has read nothing yet."""
        return self.at == 0 and not self._buffer

    @property
    def whole(self) -> bool:
        """Whether every call that began has all its arguments."""
        return self._closed

    def feed(self, text: str) -> list[ToolEvent]:
        """Events that this text completes."""
        self._buffer += text
        events: list[ToolEvent] = []
        while self._buffer and self._state(events):
            pass
        return events

    def finish(self) -> list[ToolEvent]:
        """The end of the answer: text that was held back. A call whose head never came is text too."""
        events: list[ToolEvent] = []
        if self._state in (self._start, self._text, self._head):
            self._say(len(self._buffer), events)
        return events

    # Each state takes what it can from the buffer; True = it moved on, False = it needs more text.

    def _drop(self, size: int) -> str:
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        self.at += len(taken)
        return taken

    def _strip(self) -> None:
        self._drop(len(self._buffer) - len(self._buffer.lstrip()))

    def _say(self, size: int, events: list[ToolEvent]) -> None:
        at = self.at
        if text := self._drop(size):
            self._said = True
            events.append(Content(text, at))

    def _start(self, _: list[ToolEvent]) -> bool:
        start = self._buffer.lstrip()
        if start:
            self._state = self._head if start[0] == self._format.begin[0] else self._plain
        return bool(start)

    def _plain(self, events: list[ToolEvent]) -> bool:
        self._say(len(self._buffer), events)
        return False

    def _text(self, events: list[ToolEvent]) -> bool:
        before, found, _ = self._buffer.partition(self._format.begin)
        if found:
            if before.strip() or (self._said and before):
                self._say(len(before), events)
            else:
                self._drop(len(before))
            self._state, self._before = self._head, self._format.open + self._format.head
            return True
        safe = before[: len(before) - held(before, self._format.begin)]
        if safe.strip() or self._said:
            self._say(len(safe), events)
        return False

    def _head(self, events: list[ToolEvent]) -> bool:
        # A JSON object's first brace is looked for, not taken.
        named = self._format.named if self._format.pairs else self._format.named + "{"
        at = swallow(self._buffer, self._before)
        name = None
        if at is not None and at >= 0:
            at += len(self._buffer[at:]) - len(self._buffer[at:].lstrip())
            name = NAME.match(self._buffer, at)
            if name is not None:
                at = swallow(self._buffer, named, name.end())
            else:
                at = None if PART_OF_NAME.match(self._buffer, at) else -1
        if at is None:
            return False
        if name is None or at < 0:
            self._say(len(self._format.begin), events)
            self._state = self._plain if self._format.bare else self._text
            return True
        events.append(CallStart(self.calls, self._format.new_id(), name[0]))
        self._name = name[0]
        self.calls += 1
        self._closed, self._depth, self._in_string, self._pairs = False, 0, False, 0
        self._drop(at if self._format.pairs else at - 1)
        self._state = self._pair if self._format.pairs else self._arguments
        return True

    def _arguments(self, events: list[ToolEvent]) -> bool:
        end = self._end_of_value()
        piece = self._drop(end)
        if piece:
            events.append(CallArguments(self.calls - 1, piece))
        self._closed = self._depth == 0 and not self._in_string and piece[-1:] in ("}", "]")
        if self._closed:
            self._state = self._tail
        return self._closed

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

    def _pair(self, events: list[ToolEvent]) -> bool:
        key = swallow(self._buffer, self._rules.key)
        if key is None:
            return False
        if key >= 0:
            self._drop(key)
            self._state = self._key_name
            return True
        tail = swallow(self._buffer, self._format.tail)
        if tail is None:
            return False
        if tail >= 0:
            events.append(CallArguments(self.calls - 1, "}" if self._pairs else "{}"))
            self._closed = True
        self._drop(max(tail, 0))
        self._state = self._between if tail >= 0 else self._text
        return True

    @property
    def _rules(self) -> Pairs:
        assert self._format.pairs is not None
        return self._format.pairs

    def _key_name(self, _: list[ToolEvent]) -> bool:
        rules = self._rules
        stops = {markup.lstrip()[:1] for markup in (rules.text, rules.json)}
        end = next((at for at, char in enumerate(self._buffer) if char in stops), -1)
        if end < 0:
            return False
        for markup in (rules.text, rules.json):
            at = swallow(self._buffer, markup, end)
            if at is None:
                return False
            if at < 0:
                continue
            blank = markup[len(markup.rstrip()) :]
            rest = self._buffer[at : at + len(blank)]
            if blank != rest and blank.startswith(rest):
                return False
            self._key = self._buffer[:end].strip()
            self._is_text = None if rules.text == rules.json else markup == rules.text
            self._drop(at + len(blank) if rest == blank else at)
            self._state = self._value
            return True
        self._state = self._text
        return True

    def _value(self, events: list[ToolEvent]) -> bool:
        written, found, _ = self._buffer.partition(self._rules.end.strip())
        if not found:
            return False
        self._drop(len(written) + len(found))
        blank = self._rules.end[: len(self._rules.end) - len(self._rules.end.lstrip())]
        allowed = self._schemas.get(self._name, {}).get(self._key, ANY)
        value = read_value(written.removesuffix(blank), allowed, self._is_text)
        opening = ", " if self._pairs else "{"
        self._pairs += 1
        key = json.dumps(self._key, ensure_ascii=False)
        events.append(CallArguments(self.calls - 1, f"{opening}{key}: {value}"))
        self._state = self._pair
        return True

    def _tail(self, _: list[ToolEvent]) -> bool:
        tail = swallow(self._buffer, self._format.tail)
        if tail is None:
            return False
        self._drop(max(tail, 0))
        self._state = self._between
        return True

    def _between(self, _: list[ToolEvent]) -> bool:
        self._strip()
        fmt = self._format
        close = swallow(self._buffer, fmt.close) if fmt.close.strip() else -1
        more = swallow(self._buffer, fmt.separator + fmt.head) if self._buffer else None
        if close is not None and close >= 0:
            self._drop(close)
            self._state = self._plain if fmt.bare else self._text
        elif more is not None and more >= 0:
            self._state, self._before = self._head, fmt.separator + fmt.head
        elif close is None or more is None:
            return False
        else:
            self._state = self._plain if fmt.bare else self._text
        return True
