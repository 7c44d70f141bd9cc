"""What a dialect is: how a request becomes one of chat completions, and how the answer is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from json import JSONEncoder, dumps
from typing import Any, Protocol

from llmservice_gateway.dialects.pieces import Json, Piece
from llmservice_runtime.wire.errors import ApiError
from llmservice_runtime.wire.sse import HEADERS, quote

CHAT, COMPLETIONS, TOKENIZE = "/v1/chat/completions", "/v1/completions", "/tokenize"
EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"
"""Paths of replicas."""
ONE = "/{namespace}/{name}"
"""What stands before a route of one service alone."""


@dataclass(frozen=True, slots=True)
class Translation:
    """`body` for the replica; `echo` is what whoever tells the answer has to know. Both are JSON."""

    body: Json
    echo: Json = field(default_factory=dict)
    unbounded: bool = False
    """Where prompt and answer together don't fit the context, the answer may take what the prompt leaves of it."""
    path: str = ""
    """At the replica, where it is another one than the dialect's."""
    context_tokens: int = 0
    """A context that the model has to have, by `context_field`."""
    context_field: str = ""
    spare: tuple[str, ...] = ()
    """Fields of the body that a replica of an earlier release may refuse: the answer is told without them as well."""


class Teller(Protocol):
    """Tells one answer: as events while it comes (`tell`, then `end` or `broken`), or `whole`."""

    def tell(self, piece: Piece) -> str:
        """Events that follow from a piece."""
        ...

    def end(self) -> str:
        """The last events of an answer that is whole."""
        ...

    def broken(self, error: ApiError) -> str:
        """The last events of one that is not, also of one that has not begun."""
        ...

    def whole(self, pieces: Iterable[Piece]) -> Any:
        """The body of an answer that is no stream, as JSON."""
        ...


@dataclass(slots=True)
class Answering:
    """Of one request: `identity` is in the ids of its answer, `now` is Unix time. Seconds since then, as far as they
    are known: `waited` until a replica had room for it, `began` and `ended` of the answer."""

    echo: Json
    identity: str
    now: int
    waited: float = 0.0
    began: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class Dialect:
    """One route of a protocol, or more that differ in nothing else."""

    name: str
    routes: tuple[str, ...]
    """Under each of the `bases`."""
    path: str
    """At the replica."""
    translate: Callable[[Json], Translation]
    """From a body that is a JSON object. ApiError 400."""
    teller: Callable[[Answering], Teller] | None
    """None: it generates nothing."""
    error: Callable[[ApiError], Json]
    """The body of an answer that is none."""
    beat: bytes
    """What a stream that waits is sent."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Fields of chat, as regular expressions -> what they are called here: engines speak of the ones that they know."""
    id_header: str = "X-Request-Id"
    remade: Callable[[Answering, Json], Any] | None = None
    """The body of an answer of what generates nothing: counts, vectors, scores. ValueError, LookupError or TypeError
    for what is none."""
    bases: tuple[str, ...] = ("", "/v1", f"{ONE}/v1")
    heads: Mapping[str, str] = field(default_factory=lambda: HEADERS)
    """Headers of its streams."""

    def renamed(self, error: ApiError) -> ApiError:
        """An engine's error in the words of this protocol."""
        param, message = error.param, error.message
        for chats, own in self.names.items():
            param = re.sub(f"^{chats}", own, param) if param else None
            message = re.sub(f"`{chats}", f"`{own}", message)
        return ApiError(error.status, message, code=error.code, param=param, kind=error.kind, headers=error.headers)


def event(kind: str, body: Mapping[str, Any]) -> str:
    """A server-sent event with its name."""
    return f"event: {kind}\ndata: {text_of({'type': kind, **body})}\n\n"


def quoted(text: str) -> str:
    """A string as `text_of` has it, which costs a tenth of that."""
    found = quote(text)
    return found if found.isascii() else text_of(text)


HOLE = "\0"
"""A text that nobody says."""


def around(told: str) -> list[str]:
    """What stands before, between and after each HOLE in what is told again and again with other texts (`quoted`) or
    numbers there: to encode all of it anew costs ten times as much."""
    return told.split(quoted(HOLE))


_ENCODER = JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def text_of(body: Any) -> str:
    """Compact JSON that has bytes in UTF-8: half of a surrogate pair stays escaped, its other half may come."""
    text = _ENCODER.encode(body)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return dumps(body, separators=(",", ":"))
    return text
