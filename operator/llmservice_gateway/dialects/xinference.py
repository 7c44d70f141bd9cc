"""Where Xinference's clients want more of OpenAI's routes than OpenAI's do."""

from __future__ import annotations

import json
from collections.abc import Iterable

from llmservice_gateway.dialects.dialect import Answering, Translation, text_of
from llmservice_gateway.dialects.parts import CALL, MOST, TooMuchError
from llmservice_gateway.dialects.pieces import (
    Begun,
    CallBegun,
    CallGrew,
    Counted,
    Ended,
    Json,
    Piece,
    Text,
    Thought,
)
from llmservice_gateway.dialects.turns import call
from llmservice_runtime.wire.errors import ApiError, error_body, unsupported


def error_of(error: ApiError) -> Json:
    """OpenAI's body, with what Xinference's client reads."""
    return {**error_body(error), "detail": error.message}


def chat(given: Json) -> Translation:
    """A stream with tools, as it is: another answer is what it gets."""
    if given.get("return_token_ids"):
        raise unsupported("return_token_ids", "a stream with tools tells none here; name the model NAMESPACE/NAME.")
    options = given.get("stream_options")
    wants = isinstance(options, dict) and options.get("include_usage") is True
    return Translation({**given, "stream_options": {"include_usage": True}}, {"usage": wants})


def rerank(given: Json) -> Translation:
    """Its client sends what it was given beyond the fields as text of JSON."""
    body = {name: value for name, value in given.items() if value is not None}
    kwargs = body.pop("kwargs", None)
    try:
        more = json.loads(kwargs) if isinstance(kwargs, str) else kwargs
    except ValueError:
        more = kwargs
    if more not in (None, {}) and not (isinstance(more, dict) and more.items() <= body.items()):
        raise unsupported("kwargs", "send fields beside `query` and `documents`.")
    return Translation(body)


def same(_: Answering, said: Json) -> Json:
    """A replica's answer as it is."""
    return said


class ChatTeller:
    """Chat's own chunks, but for calls: readers of Xinference's streams leave out chunks without content, so calls come
    with the finish reason, each whole."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._model = ""
        self._calls = dict[int, tuple[CallBegun, list[str]]]()
        self._size = 0
        self._counted = Counted(0, 0)

    def tell(self, piece: Piece) -> str:
        """Chunks that follow from a piece."""
        match piece:
            case Begun(model):
                self._model = model
                return self._chunk({"role": "assistant", "content": ""})
            case Counted():
                self._counted = piece
            case Thought(text):
                return self._chunk({"reasoning": text, "reasoning_content": text})
            case Text(text, logprobs):
                return self._chunk({"content": text}, logprobs={"content": list(logprobs)} if logprobs else None)
            case CallBegun(number, call_id, name):
                self._count(CALL + len(call_id) + len(name))
                self._calls[number] = piece, []
            case CallGrew(number, text) if number in self._calls:
                self._count(len(text))
                self._calls[number][1].append(text)
            case Ended(reason, stop):
                calls = [
                    {"index": number, **call(begun.call_id, begun.name, "".join(texts))}
                    for number, (begun, texts) in self._calls.items()
                ]
                return self._chunk({"tool_calls": calls} if calls else {}, reason, stop_reason=stop)
        return ""

    def end(self) -> str:
        """The usage where it was asked for, and the mark that all has come."""
        counted = self._counted
        usage = {
            "prompt_tokens": counted.prompt,
            "completion_tokens": counted.answer,
            "total_tokens": counted.prompt + counted.answer,
        }
        told = self._event({**self._head(), "choices": [], "usage": usage}) if self._answering.echo["usage"] else ""
        return told + "data: [DONE]\n\n"

    def broken(self, error: ApiError) -> str:
        """An error instead of the end."""
        return self._event(error_of(error))

    def whole(self, pieces: Iterable[Piece]) -> Json:
        """Only streams come here."""
        raise ValueError

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MOST:
            raise TooMuchError

    def _chunk(self, delta: Json, reason: str | None = None, *, logprobs: Json | None = None, **more: object) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason, **more}
        return self._event({**self._head(), "choices": [choice]})

    def _head(self) -> Json:
        return {
            "id": f"chatcmpl-{self._answering.identity}",
            "object": "chat.completion.chunk",
            "created": self._answering.now,
            "model": self._model,
        }

    def _event(self, body: Json) -> str:
        return f"data: {text_of(body)}\n\n"
