"""The words of ASGI, and answers of ours in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from multidict import CIMultiDict

from llmservice_runtime.wire.errors import ApiError, body_too_large, error_text

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json; charset=utf-8")


class ClientGoneError(Exception):
    """The client hung up before its body was whole; nobody is there to answer."""


class Incoming:
    """A request whose body is not read yet, as `wire.body` and `openai.requests` read it."""

    def __init__(self, scope: Scope, receive: Receive, most: int) -> None:
        self.headers = headers_of(scope)
        self._receive = receive
        self._most = most

    @property
    def content_length(self) -> int | None:
        """As the client says; None = it does not."""
        said = self.headers.get("Content-Length", "")
        return int(said) if said.isdigit() else None

    async def read(self) -> bytes:
        """The whole body as it was sent; ApiError 413 for one that is too large."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                raise body_too_large(self._most)
            if not message.get("more_body", False):
                return b"".join(parts)


def headers_of(scope: Scope) -> CIMultiDict[str]:
    """Headers as text."""
    pairs: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives this body, then what follows (that the client hung up)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def answer(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (JSON,)) -> None:
    """A whole answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def refuse(send: Send, error: ApiError) -> None:
    """The one error body."""
    headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await answer(send, error.status, error_text(error), [JSON, *headers])
