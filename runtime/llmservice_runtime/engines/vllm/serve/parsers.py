"""Our reader as a pair of vLLM's parsers. The tool parser reads streams alone, thinking too; of whole answers vLLM asks
the reasoning parser first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    ExtractedToolCallInformation,
    FunctionCall,
    ToolCall,
)
from vllm.reasoning import ReasoningParser
from vllm.tool_parsers import ToolParser

from llmservice_runtime.engines.vllm.serve.reading import READING, Reading
from llmservice_runtime.openai.events import Event, Message, Reasoning
from llmservice_runtime.openai.tool_parser import CallArguments, CallStart, Content


class LearnedTools(ToolParser):  # type: ignore[misc]
    """One answer. Which calls may or must come is held by a grammar, not by vLLM's own ways."""

    supports_required_and_named = False
    engine_based_streaming = True  # asks for what is held back at the end

    def __init__(self, tokenizer: Any, tools: Any = None) -> None:
        super().__init__(tokenizer, tools)
        self._reading: Reading = READING.get()
        self._reader = self._reading.reader()

    def adjust_request(self, request: Any) -> Any:
        """Nothing: the request comes with its grammar."""
        return request

    def extract_tool_calls(self, model_output: str, request: Any) -> Any:
        """Of a whole answer whose thinking was taken away."""
        message = _whole(Reading(format=self._reading.format, tools=self._reading.tools), model_output)
        calls = [ToolCall(id=call["id"], function=FunctionCall(**call["function"])) for call in message.calls]
        content = "".join(message.content)
        return ExtractedToolCallInformation(
            tools_called=bool(calls), tool_calls=calls, content=content if content or not calls else None
        )

    def extract_tool_calls_streaming(self, *texts: Any, **named: Any) -> Any:
        """What the next piece of the text says."""
        delta_text: str = named["delta_text"] if "delta_text" in named else texts[2]
        if self._reader is None:
            return DeltaMessage(content=delta_text) if delta_text else None
        return _delta(self._reader.feed(delta_text))

    def finish_streaming(self) -> Any:
        """What was held back."""
        return _delta(self._reader.finish()) if self._reader else None


class LearnedThinking(ReasoningParser):  # type: ignore[misc]
    """Takes the thinking from whole answers. To vLLM it is always over: grammars are made for what comes first."""

    engine_based_streaming = True

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        self._reading: Reading = READING.get()

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """Always."""
        return True

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        """All of them."""
        return input_ids

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        """(thinking, the rest)."""
        message = _whole(Reading(self._reading.reasoning, self._reading.thinking), model_output)
        return "".join(message.reasoning) or None, "".join(message.content)

    def extract_reasoning_streaming(self, *texts: Any, **named: Any) -> Any:
        """Never asked: the tool parser reads streams."""
        raise NotImplementedError


def _whole(reading: Reading, text: str) -> Message:
    message, reader = Message(), reading.reader()
    message.add([Content(text)] if reader is None else [*reader.feed(text), *reader.finish()])
    return message


def _delta(events: Iterable[Event]) -> Any:
    """One message of several events; None = they say nothing."""
    content, thought = "", ""
    calls: dict[int, Any] = {}
    for event in events:
        match event:
            case Content(text):
                content += text
            case Reasoning(text):
                thought += text
            case CallStart(index, call_id, name):
                function = DeltaFunctionCall(name=name, arguments="")
                calls[index] = DeltaToolCall(index=index, id=call_id, type="function", function=function)
            case CallArguments(index, text):
                if index in calls:
                    calls[index].function.arguments += text
                else:
                    calls[index] = DeltaToolCall(index=index, function=DeltaFunctionCall(arguments=text))
    said = {"content": content, "reasoning": thought, "tool_calls": list(calls.values())}
    said = {name: value for name, value in said.items() if value}
    return DeltaMessage(**said) if said else None
