"""How the answer to one request is read: our own reader of thinking and tool calls, learned from the model's template.

vLLM's parsers are picked by hand, one for a family of models, and read what they read. With ours a template that works
under our other engines works here, streamed and whole alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from llmservice_runtime.openai.events import AnswerReader
from llmservice_runtime.openai.reasoning import ReasoningReader
from llmservice_runtime.openai.reasoning_formats import ReasoningFormat
from llmservice_runtime.openai.requests.chat import Tool
from llmservice_runtime.openai.tool_formats import ToolFormat
from llmservice_runtime.openai.tool_parser import ToolParser


@dataclass(frozen=True, slots=True)
class Reading:
    """`reasoning` = how thinking is told apart, if it is; `thinking` = the prompt itself opened the block."""

    reasoning: ReasoningFormat | None = None
    thinking: bool = False
    format: ToolFormat | None = None
    tools: Sequence[Tool] = ()

    def reader(self) -> AnswerReader | None:
        """A reader for one answer; None when its text is content as it is."""
        if self.reasoning is None and self.format is None:
            return None
        reasoning = ReasoningReader(self.reasoning, self.thinking) if self.reasoning else None
        tools = ToolParser(self.format, self.tools) if self.format else None
        return AnswerReader(reasoning, tools, hide_reasoning=False)


READING: ContextVar[Reading] = ContextVar("reading", default=Reading())  # noqa: B039
"""Of the request that is served: vLLM makes its parsers in the context of its handler."""
