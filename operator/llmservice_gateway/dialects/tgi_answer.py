"""Answers as TGI tells them: an event for each token, or the text with its details."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import Any

from llmservice_gateway.dialects.dialect import HOLE, Answering, around, quoted, text_of
from llmservice_gateway.dialects.parts import MOST, TooMuchError
from llmservice_gateway.dialects.pieces import Counted, Ended, Json, Piece, Text, Tokens
from llmservice_runtime.wire.errors import ApiError

UNKNOWN = -1
"""The id of what is no token: a stream's last event has one in any case, also where no token ended the answer. No
tokenizer has it."""
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
        self._ids = deque[int]()
        """Tokens that came and are not told yet."""
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
            case Tokens(ids):
                self._ids += ids
            case Text(text, logprobs):
                self._more(text)
                if not logprobs:
                    self._told += 1
                    return f"{_BEFORE}{self._told}{_BETWEEN}{quoted(text)}{_AFTER}"
                return "".join(self._event(token) for one in logprobs for token in self._tokens(one))
        return ""

    def end(self) -> str:
        """The text as a whole, with a token that has none: it is told once it is known that nothing more comes."""
        *before, last = self._rest() or [_hidden(UNKNOWN)]
        told = "".join(map(self._event, before))
        return told + self._event(last, {"generated_text": self._text.getvalue(), "details": self._details()})

    def broken(self, error: ApiError) -> str:
        """An error instead of the end."""
        return f"data:{text_of(error_of(error))}\n\n"

    def whole(self, pieces: Iterable[Piece]) -> Any:
        """The text, with details where they were asked for; in a list where TGI has it in one."""
        tokens, prefill, prompt = list[Json](), list[Json](), 0
        for piece in pieces:
            match piece:
                case Counted():
                    self._counted = piece
                case Ended():
                    self._ended = piece
                case Tokens(ids, prompted):
                    self._ids += ids
                    prompt = len(prompted) if self._echo.get("prefill") else 0
                case Text(text, logprobs):
                    prefill = [_prefilled(one) for one in logprobs[:prompt]]
                    behind, rest = _behind(text, logprobs, prompt)
                    self._more(behind)
                    tokens += [token for one in rest for token in self._tokens(one)]
        body: Json = {"generated_text": self._text.getvalue()}
        if self._echo.get("details"):
            body["details"] = {**self._details(), "prefill": prefill, "tokens": [*tokens, *self._rest()]}
        return [body] if self._echo.get("listed") else body

    def _tokens(self, told: Json) -> Iterator[Json]:
        """One with text, after those before it that have none."""
        if (known := told.get("id", UNKNOWN)) in self._ids:
            while (hidden := self._ids.popleft()) != known:
                yield _hidden(hidden)
        yield _token(told)

    def _rest(self) -> list[Json]:
        """Those after all text: what ended the answer."""
        rest = [_hidden(known) for known in self._ids]
        self._ids.clear()
        return rest

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
    return {**_prefilled(told), "special": False}


def _prefilled(told: Json) -> Json:
    """One of the prompt."""
    return {"id": told.get("id", UNKNOWN), "text": told.get("token", ""), "logprob": told.get("logprob")}


def _hidden(known: int) -> Json:
    """A special token, which no text shows and no probability is told of."""
    return {"id": known, "text": "", "logprob": 0.0 if known == UNKNOWN else None, "special": True}


def _behind(text: str, logprobs: Sequence[Json], prompt: int) -> tuple[str, Sequence[Json]]:
    """What is behind a prompt of so many tokens, and its tokens. Special ones may be among these and not in the text:
    those of the prompt, and what ended the answer, which is told with the rest."""
    if not prompt:
        return text, logprobs
    rest = logprobs[prompt:]
    before, whole, cut = map(_joined, (logprobs[:prompt], rest, rest[:-1]))
    if text.startswith(before):
        behind = text.removeprefix(before)
    else:
        behind = cut if text.endswith(cut) and not text.endswith(whole) else whole
    return behind, rest[:-1] if behind == cut else rest


def _joined(logprobs: Sequence[Json]) -> str:
    return "".join(one.get("token", "") for one in logprobs)


_BEFORE, _BETWEEN, _AFTER = around(_told(HOLE, _token({"token": HOLE})))
"""Of an event whose token is told without its probability, as most are."""
