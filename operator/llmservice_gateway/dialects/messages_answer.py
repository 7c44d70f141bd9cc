"""An answer as Anthropic's /v1/messages tells it."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic_core import from_json

from llmservice_gateway.dialects.dialect import HOLE, Answering, around, event, quoted
from llmservice_gateway.dialects.messages_errors import error_of
from llmservice_gateway.dialects.parts import Kind, Part, PartBegun, PartEnded, PartEvent, PartGrew, Parts
from llmservice_gateway.dialects.pieces import Begun, Counted, Ended, Json, Piece
from llmservice_runtime.wire.errors import ApiError

REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
"""Why it ended, where that has another name than `end_turn`."""
DELTAS = {
    Kind.TEXT: ("text_delta", "text"),
    Kind.THINKING: ("thinking_delta", "thinking"),
    Kind.CALL: ("input_json_delta", "partial_json"),
}


class MessageTeller:
    """One message."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._parts = Parts()
        self._model = ""
        self._counted = Counted(0, 0)
        self._ended: Ended | None = None
        self._called = False
        self._before = self._after = ""
        """Of an event that has more text of the part that is open, as most have."""

    def tell(self, piece: Piece) -> str:
        """Events that follow from a piece."""
        match piece:
            case Counted():
                self._counted = piece
            case Begun(model):
                self._model = model
                return event("message_start", {"message": self._message([], None)})
            case Ended():
                self._ended = piece
                return "".join(map(self._event, self._parts.end()))
            case _:
                return "".join(map(self._event, self._parts.add(piece)))
        return ""

    def end(self) -> str:
        """Why it ended, and what it took."""
        delta = {"stop_reason": self._reason(), "stop_sequence": self._stop()}
        told = event("message_delta", {"delta": delta, "usage": self._usage()})
        return "".join(map(self._event, self._parts.end())) + told + event("message_stop", {})

    def broken(self, error: ApiError) -> str:
        """An error instead of the end."""
        body = error_of(error)
        return event("error", {"error": body["error"]})

    def whole(self, pieces: Iterable[Piece]) -> Json:
        """The message, all of it there."""
        blocks = list[Json]()
        for piece in pieces:
            match piece:
                case Counted():
                    self._counted = piece
                case Begun(model):
                    self._model = model
                case Ended():
                    self._ended = piece
                case _:
                    blocks += self._blocks(self._parts.add(piece))
        blocks += self._blocks(self._parts.end())
        return self._message(blocks, self._reason())

    def _event(self, told: PartEvent) -> str:
        match told:
            case PartBegun(part):
                self._called = part.kind is Kind.CALL
                kind, name = DELTAS[part.kind]
                grows = {"index": part.number, "delta": {"type": kind, name: HOLE}}
                self._before, self._after = around(event("content_block_delta", grows))
                body = {"index": part.number, "content_block": _block(part)}
                return event("content_block_start", body)
            case PartGrew(_, text):
                return f"{self._before}{quoted(text)}{self._after}" if text else ""
            case PartEnded(part):
                signed = {"index": part.number, "delta": {"type": "signature_delta", "signature": ""}}
                before = event("content_block_delta", signed) if part.kind is Kind.THINKING else ""
                return before + event("content_block_stop", {"index": part.number})

    def _blocks(self, told: Iterable[PartEvent]) -> list[Json]:
        """Those that are whole."""
        found = list[Json]()
        for one in told:
            if isinstance(one, PartEnded):
                self._called = one.part.kind is Kind.CALL
                found.append(_block(one.part))
        return found

    def _message(self, blocks: list[Json], reason: str | None) -> Json:
        return {
            "id": f"msg_{self._answering.identity}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": self._stop(),
            "usage": self._usage(),
        }

    def _reason(self) -> str:
        ended = self._ended or Ended("stop")
        if self._stop() is not None:
            return "stop_sequence"
        if ended.reason == "length" and self._answering.echo.get("unbounded"):
            return "model_context_window_exceeded"
        if ended.reason == "stop" and self._called:
            return "tool_use"
        return REASONS.get(ended.reason, "end_turn")

    def _stop(self) -> str | None:
        return self._ended.stop if self._ended and self._ended.reason == "stop" else None

    def _usage(self) -> Json:
        """Anthropic counts what was cached apart."""
        counted = self._counted
        return {
            "input_tokens": max(0, counted.prompt - counted.cached),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": counted.cached,
            "output_tokens": counted.answer,
        }


def _block(part: Part) -> Json:
    match part.kind:
        case Kind.TEXT:
            return {"type": "text", "text": part.text}
        case Kind.THINKING:
            return {"type": "thinking", "thinking": part.text, "signature": ""}
        case Kind.CALL:
            return {"type": "tool_use", "id": part.call_id, "name": part.name, "input": _input(part.text)}


def _input(arguments: str) -> Json:
    """The arguments of a call; of those that `max_tokens` cut off as much as can be read."""
    try:
        found = from_json(arguments or "{}", allow_partial=True)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
