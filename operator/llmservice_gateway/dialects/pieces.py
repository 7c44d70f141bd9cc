"""What chat completions say, one piece after another: the chunks of a stream, and a whole answer, give the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Begun:
    """The answer has begun. `model` as the engine calls it."""

    model: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Text of the model's thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """Text of the answer. `logprobs`: chat's entries of its tokens, where they were asked for; of a plain completion
    with the `id` of each, where those were."""

    text: str
    logprobs: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Tokens:
    """Ids of tokens that a plain completion grew by, before their text, and of its prompt's (once), where they were
    asked for."""

    ids: tuple[int, ...]
    prompt: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A call of a tool, the `number`-th one."""

    number: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallGrew:
    """More of a call's arguments: JSON text."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Why there is no more (OpenAI's finish reason), and the stop string that did it."""

    reason: str
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens so far. `cached` are those of the prompt that were computed before."""

    prompt: int
    answer: int
    cached: int = 0


Piece = Begun | Thought | Text | Tokens | CallBegun | CallGrew | Ended | Counted


class Chunks:
    """Reads the chunks of one stream. Whatever an engine leaves out or writes otherwise counts as not said."""

    def __init__(self) -> None:
        self._begun = False
        self._named = set[int]()

    def read(self, chunk: Json) -> Iterator[Piece]:
        """The pieces of one chunk; those of a whole answer's `message` too."""
        if counted := _counted(chunk.get("usage")):
            yield counted
        if not self._begun:
            self._begun = True
            yield Begun(_text(chunk.get("model")))
        for choice in _objects(chunk.get("choices")):
            said = choice.get("delta", choice.get("message"))
            if isinstance(said, dict):
                yield from self._said(said, choice)
            else:  # of a plain completion
                if choice.get("token_ids") or choice.get("prompt_token_ids"):
                    yield Tokens(_ids(choice.get("token_ids")), _ids(choice.get("prompt_token_ids")))
                if (text := _text(choice.get("text"))) or choice.get("logprobs"):
                    yield Text(text, _tokens(choice.get("logprobs")))
            if isinstance(reason := choice.get("finish_reason"), str):
                stop = choice.get("stop_reason")
                yield Ended(reason, stop if isinstance(stop, str) else None)

    def _said(self, said: Json, choice: Json) -> Iterator[Piece]:
        if thought := _text(said.get("reasoning")) or _text(said.get("reasoning_content")):
            yield Thought(thought)
        told = choice.get("logprobs")
        logprobs = tuple(_objects(told.get("content"))) if isinstance(told, dict) else ()
        if (text := _text(said.get("content"))) or logprobs:
            yield Text(text, logprobs)
        for place, call in enumerate(_objects(said.get("tool_calls"))):
            yield from self._called(call, place)

    def _called(self, call: Json, place: int) -> Iterator[Piece]:
        given, function = call.get("index"), call.get("function")
        number = given if isinstance(given, int) else place
        function = function if isinstance(function, dict) else {}
        name = _text(function.get("name"))
        if name and number not in self._named:
            self._named.add(number)
            yield CallBegun(number, _text(call.get("id")), name)
        if arguments := _text(function.get("arguments")):
            yield CallGrew(number, arguments)


def _tokens(told: Any) -> tuple[Json, ...]:
    """Log-probabilities of a plain completion, as chat has them."""
    if not isinstance(told, dict):
        return ()
    lists = [told.get(name) for name in ("tokens", "token_logprobs")]
    if not all(isinstance(one, list) for one in lists):
        return ()
    ids = _ids(told.get("token_ids"))
    found = tuple({"token": token, "logprob": value} for token, value in zip(*lists, strict=False))
    return (
        tuple({**one, "id": known} for one, known in zip(found, ids, strict=True)) if len(ids) == len(found) else found
    )


def _ids(value: Any) -> tuple[int, ...]:
    return tuple(one for one in value if isinstance(one, int)) if isinstance(value, list) else ()


def _counted(usage: Any) -> Counted | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Counted(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _objects(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
