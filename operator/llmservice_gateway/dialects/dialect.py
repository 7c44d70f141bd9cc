"""What a dialect is: how a request becomes one of chat completions, and how the answer is told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from json import dumps
from typing import Any, Protocol

from llmservice_gateway.dialects.pieces import Json, Piece
from llmservice_runtime.wire.errors import ApiError

CHAT, TOKENIZE = "/v1/chat/completions", "/tokenize"
"""Paths of replicas."""


@dataclass(frozen=True, slots=True)
class Translation:
    """`body` for the replica's `path`; `echo` is what whoever tells the answer has to know. Both are JSON."""

    body: Json
    echo: Json = field(default_factory=dict)
    unbounded: bool = False
    """Where prompt and answer together don't fit the context, the answer may take what the prompt leaves of it."""


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

    def whole(self, pieces: Iterable[Piece]) -> Json:
        """The body of an answer that is no stream."""
        ...


@dataclass(frozen=True, slots=True)
class Answering:
    """Of one request: `identity` is in the ids of its answer, `now` is Unix time."""

    echo: Json
    identity: str
    now: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """One route of a protocol."""

    name: str
    route: str
    """Under a base URL."""
    path: str
    """At the replica."""
    translate: Callable[[Json], Translation]
    """From a body that is a JSON object. ApiError 400."""
    teller: Callable[[Answering], Teller] | None
    """None: it generates nothing, and `counted` makes the body of what /tokenize counted."""
    error: Callable[[ApiError], Json]
    """The body of an answer that is none."""
    beat: bytes
    """What a stream that waits is sent."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Fields of chat, as regular expressions -> what they are called here: engines speak of the ones that they know."""
    id_header: str = "X-Request-Id"
    counted: Callable[[int], Json] | None = None

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


def text_of(body: Any) -> str:
    """Compact JSON that has bytes in UTF-8: half of a surrogate pair stays escaped, its other half may come."""
    text = dumps(body, ensure_ascii=False, separators=(",", ":"))
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return dumps(body, separators=(",", ":"))
    return text
