"""An answer as OpenAI's /v1/responses tells it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmservice_gateway.dialects.dialect import HOLE, Answering, around, event, quoted
from llmservice_gateway.dialects.parts import Kind, Part, PartBegun, PartEnded, PartEvent, PartGrew, Parts
from llmservice_gateway.dialects.pieces import Begun, Counted, Ended, Json, Piece
from llmservice_runtime.wire.errors import ApiError

REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why a response is incomplete."""
PREFIXES = {Kind.TEXT: "msg", Kind.THINKING: "rs", Kind.CALL: "fc"}
"""Of the ids of items."""
NAMES = {Kind.TEXT: "output_text", Kind.THINKING: "reasoning_text", Kind.CALL: "function_call_arguments"}
"""In the names of events."""
FAILED = {429: "rate_limit_exceeded", 400: "invalid_prompt"}
"""What `response.error.code` has for them; for all others `server_error`."""


class ResponseTeller:
    """One response."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._parts = Parts()
        self._items: list[Json] = []
        self._model = ""
        self._counted: Counted | None = None
        self._reason = ""
        self._told = 0
        self._begun = False
        self._growing = list[str]()
        """Around number and text of an event that has more of the part that is open, as most have."""

    def tell(self, piece: Piece) -> str:
        """Events that follow from a piece."""
        match piece:
            case Counted():
                self._counted = piece
            case Begun(model):
                self._model, self._begun = model, True
                created = {"response": self._response("in_progress")}
                return self._event("response.created", created) + self._event("response.in_progress", created)
            case Ended(reason):
                self._reason = reason
                return "".join(map(self._events, self._parts.end()))
            case _:
                return "".join(map(self._events, self._parts.add(piece)))
        return ""

    def end(self) -> str:
        """The response as a whole."""
        rest = "".join(map(self._events, self._parts.end()))
        return rest + self._event(f"response.{self._status}", {"response": self._response(self._status)})

    def broken(self, error: ApiError) -> str:
        """The response has failed, for who follows it; and an error, which clients raise."""
        told = {"code": error.code, "message": error.message, "param": error.param}
        failed = ""
        if self._begun:
            response = self._response("failed")
            response["error"] = {"code": FAILED.get(error.status, "server_error"), "message": error.message}
            failed = self._event("response.failed", {"response": response})
        return failed + self._event("error", {**told, "error": {"type": error.kind, **told}})

    def whole(self, pieces: Iterable[Piece]) -> Json:
        """The response, all of it there."""
        for piece in pieces:
            match piece:
                case Counted():
                    self._counted = piece
                case Begun(model):
                    self._model = model
                case Ended(reason):
                    self._reason = reason
                case _:
                    self._keep(self._parts.add(piece))
        self._keep(self._parts.end())
        return self._response(self._status)

    def _keep(self, told: Iterable[PartEvent]) -> None:
        """Those that are whole."""
        ended = [one.part for one in told if isinstance(one, PartEnded)]
        self._items += [self._item(part, self._status, [_content(part)]) for part in ended]

    @property
    def _status(self) -> str:
        """Of the response, and of the item that is told when it ends."""
        return "incomplete" if self._reason in REASONS else "completed"

    def _event(self, kind: str, body: Json) -> str:
        self._told += 1
        return event(kind, {"sequence_number": self._told - 1, **body})

    def _events(self, told: PartEvent) -> str:
        if isinstance(told, PartGrew) and told.text and not told.logprobs:
            self._told += 1
            before, between, after = self._growing
            return f"{before}{self._told - 1}{between}{quoted(told.text)}{after}"
        part = told.part
        where: Json = {"item_id": self._id(part), "output_index": part.number}
        inner = where if part.kind is Kind.CALL else {**where, "content_index": 0}
        name = f"response.{NAMES[part.kind]}"
        match told:
            case PartBegun():
                grows = {"sequence_number": HOLE, **inner, "delta": HOLE, **_probs(part, [])}
                self._growing = around(event(f"{name}.delta", grows))
                item = self._item(part, "in_progress", [])
                added = self._event("response.output_item.added", {"output_index": part.number, "item": item})
                if part.kind is Kind.CALL:
                    return added
                return added + self._event("response.content_part.added", {**inner, "part": _content(part)})
            case PartGrew(_, text, logprobs):
                grown = {**inner, "delta": text, **_probs(part, list(logprobs))}
                return self._event(f"{name}.delta", grown) if text or logprobs else ""
            case PartEnded():
                return self._whole_part(part, name, inner)

    def _whole_part(self, part: Part, name: str, inner: Json) -> str:
        item = self._item(part, self._status, [_content(part)])
        self._items.append(item)
        if part.kind is Kind.CALL:
            said = self._event(f"{name}.done", {**inner, "name": part.name, "arguments": part.text})
        else:
            said = self._event(f"{name}.done", {**inner, "text": part.text, **_probs(part, part.logprobs)})
            said += self._event("response.content_part.done", {**inner, "part": _content(part)})
        return said + self._event("response.output_item.done", {"output_index": part.number, "item": item})

    def _id(self, part: Part) -> str:
        return f"{PREFIXES[part.kind]}_{self._answering.identity}_{part.number}"

    def _item(self, part: Part, status: str, content: list[Json]) -> Json:
        item: Json = {"id": self._id(part), "status": status}
        match part.kind:
            case Kind.TEXT:
                return {"type": "message", "role": "assistant", **item, "content": content}
            case Kind.THINKING:
                return {"type": "reasoning", **item, "summary": [], "content": content}
            case Kind.CALL:
                said = {"call_id": part.call_id, "name": part.name, "arguments": part.text}
                return {"type": "function_call", **item, **said}

    def _response(self, status: str) -> Json:
        echo, reason = self._answering.echo, REASONS.get(self._reason)
        return {
            "id": f"resp_{self._answering.identity}",
            "object": "response",
            "created_at": self._answering.now,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "instructions": echo.get("instructions"),
            "max_output_tokens": echo.get("max_output_tokens"),
            "model": self._model,
            "output": list(self._items),
            "parallel_tool_calls": echo.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "reasoning": echo.get("reasoning", {"effort": None, "summary": None}),
            "store": False,
            "temperature": echo.get("temperature", 1.0),
            "text": {"format": {"type": "text"}, **echo.get("text", {})},
            "tool_choice": echo.get("tool_choice", "auto"),
            "tools": echo.get("tools", []),
            "top_p": echo.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": self._usage() if status != "in_progress" else None,
            "user": echo.get("user"),
            "metadata": echo.get("metadata", {}),
        }

    def _usage(self) -> Json | None:
        """Engines count thinking with the rest: `reasoning_tokens` is what is known of it, nothing."""
        if (counted := self._counted) is None:
            return None
        return {
            "input_tokens": counted.prompt,
            "input_tokens_details": {"cached_tokens": counted.cached, "cache_write_tokens": 0},
            "output_tokens": counted.answer,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counted.prompt + counted.answer,
        }


def _probs(part: Part, logprobs: list[Json]) -> Json:
    """Of tokens of a text; nothing else has them."""
    return {"logprobs": logprobs} if part.kind is Kind.TEXT else {}


def _content(part: Part) -> Json:
    if part.kind is Kind.THINKING:
        return {"type": "reasoning_text", "text": part.text}
    body: dict[str, Any] = {"type": "output_text", "text": part.text, "annotations": [], "logprobs": part.logprobs}
    return body
