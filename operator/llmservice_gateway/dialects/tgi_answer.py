"""Answers as TGI tells them: an event for each token, or the text with its details."""

from __future__ import annotations

from collections.abc import Iterable
from io import StringIO
from typing import Any

from llmservice_gateway.dialects.dialect import HOLE, Answering, around, quoted, text_of
from llmservice_gateway.dialects.parts import MOST, TooMuchError
from llmservice_gateway.dialects.pieces import Counted, Ended, Json, Piece, Text
from llmservice_runtime.wire.errors import ApiError

UNKNOWN = -1
"""The id of a token: engines tell texts. No tokenizer has it."""
KINDS = {401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "overloaded", 503: "overloaded"}
"""Types of errors, by status. Others below 500 are `validation`, the rest `generation`."""


def error_of(error: ApiError) -> Json:
    """The body of an error; its event in a stream."""
    kind = KINDS.get(error.status, "validation" if error.status < 500 else "generation")
    return {"error": error.message, "error_type": kind}


class GenerationTeller:
    """One completion."""

    def __init__(self, answering: Answering) -> None:
        self._echo = answering.echo
        self._text = StringIO()
        self._text.write(answering.echo.get("prompt", ""))
        self._counted = Counted(0, 0)
        self._ended = Ended("stop")
        self._told = 0

    def tell(self, piece: Piece) -> str:
        """Events that follow from a piece."""
        match piece:
            case Counted():
                self._counted = piece
            case Ended():
                self._ended = piece
            case Text(text, logprobs):
                self._more(text)
                if not logprobs:
                    self._told += 1
                    return f"{_BEFORE}{self._told}{_BETWEEN}{quoted(text)}{_AFTER}"
                return "".join(self._event(_token(one)) for one in logprobs)
        return ""

    def end(self) -> str:
        """The text as a whole, with a token that has none: it is told once it is known that nothing more comes."""
        last = {"id": UNKNOWN, "text": "", "logprob": 0.0, "special": True}
        return self._event(last, {"generated_text": self._text.getvalue(), "details": self._details()})

    def broken(self, error: ApiError) -> str:
        """An error instead of the end."""
        return f"data:{text_of(error_of(error))}\n\n"

    def whole(self, pieces: Iterable[Piece]) -> Any:
        """The text, with details where they were asked for; in a list where TGI has it in one."""
        tokens = list[Json]()
        for piece in pieces:
            match piece:
                case Counted():
                    self._counted = piece
                case Ended():
                    self._ended = piece
                case Text(text, logprobs):
                    self._more(text)
                    tokens += [_token(one) for one in logprobs]
        body: Json = {"generated_text": self._text.getvalue()}
        if self._echo.get("details"):
            body["details"] = {**self._details(), "prefill": [], "tokens": tokens}
        return [body] if self._echo.get("listed") else body

    def _more(self, text: str) -> None:
        if self._text.write(text) + self._text.tell() > MOST:
            raise TooMuchError

    def _event(self, token: Json, end: Json | None = None) -> str:
        self._told += 1
        return _told(self._told, token, end)

    def _details(self) -> Json:
        reason = "length" if self._ended.reason == "length" else "stop_sequence" if self._ended.stop else "eos_token"
        return {
            "finish_reason": reason,
            "generated_tokens": self._counted.answer,
            "input_length": self._counted.prompt,
            "seed": self._echo.get("seed"),
        }


def _told(index: int | str, token: Json, end: Json | None = None) -> str:
    last = end or {"generated_text": None, "details": None}
    return f"data:{text_of({'index': index, 'token': token, **last})}\n\n"


def _token(told: Json) -> Json:
    return {"id": UNKNOWN, "text": told.get("token", ""), "logprob": told.get("logprob"), "special": False}


_BEFORE, _BETWEEN, _AFTER = around(_told(HOLE, _token({"token": HOLE})))
"""Of an event whose token is told without its probability, as most are."""
