"""What an answer consists of, once its text is read: content, reasoning, tool calls. And the reader that finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmservice_runtime.openai.reasoning import ReasoningReader
from llmservice_runtime.openai.tool_parser import (
    CallArguments,
    CallStart,
    Content,
    ToolEvent,
    ToolParser,
)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text of the model's thinking."""

    text: str


Event = ToolEvent | Reasoning


class AnswerReader:
    """Splits one answer's text into events; any chunking gives the same events, merged."""

    def __init__(self, reasoning: ReasoningReader | None, tools: ToolParser | None, hide_reasoning: bool) -> None:
        self._reasoning = reasoning
        self._tools = tools
        self._hide = hide_reasoning
        self._fed = 0
        """Characters of the answer so far."""
        self._offset = 0
        """Where what the tool parser reads begins: after the thinking."""

    @property
    def called(self) -> bool:
        """Whether tools were called, each call whole: the finish reason is then `tool_calls`."""
        return self._tools is not None and self._tools.calls > 0 and self._tools.whole

    @property
    def decided(self) -> int:
        """Characters of the answer of which it is known what they are."""
        if self._reasoning is not None and self._reasoning.waiting:
            return self._fed - self._reasoning.waiting
        return self._fed if self._tools is None else self._offset + self._tools.at

    def feed(self, text: str) -> list[Event]:
        """Events that this text completes; a possible start of a marker is held back."""
        self._fed += len(text)
        return self._events(*(self._reasoning.feed(text) if self._reasoning else ("", text)))

    def finish(self) -> list[Event]:
        """The end of the answer: what was held back."""
        events = self._events(*self._reasoning.finish()) if self._reasoning else []
        return [*events, *(self._placed(self._tools.finish()) if self._tools else [])]

    def _events(self, thought: str, text: str) -> list[Event]:
        events: list[Event] = [Reasoning(thought)] if thought and not self._hide else []
        if not text:
            return events
        # Content comes last: it ends where the answer ends so far.
        at = self._fed - len(text)
        if self._tools is None:
            return [*events, Content(text, at)]
        if self._tools.untouched:
            self._offset = at
        return [*events, *self._placed(self._tools.feed(text))]

    def _placed(self, events: Sequence[ToolEvent]) -> list[Event]:
        """Places in the answer instead of those in what the tool parser read."""
        return [replace(e, at=e.at + self._offset) if isinstance(e, Content) else e for e in events]


@dataclass(slots=True)
class Message:
    """An answer as a whole, for a reply that is not streamed."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def add(self, events: Sequence[Event]) -> None:
        """Append what the reader found."""
        for event in events:
            match event:
                case Content(text):
                    self.content.append(text)
                case Reasoning(text):
                    self.reasoning.append(text)
                case CallStart(_, call_id, name):
                    self.calls.append({"id": call_id, "type": "function", "function": {"name": name, "arguments": ""}})
                case CallArguments(index, text):
                    self.calls[index]["function"]["arguments"] += text

    def body(self) -> dict[str, Any]:
        """OpenAI's message; `content` is always there, null when the answer is tool calls only."""
        content = "".join(self.content)
        body: dict[str, Any] = {"role": "assistant", "content": content if content or not self.calls else None}
        if self.reasoning:
            body["reasoning"] = body["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            body["tool_calls"] = self.calls
        return body
