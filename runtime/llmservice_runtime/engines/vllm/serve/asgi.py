"""The words of ASGI, and answers of ours in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

from multidict import CIMultiDict

from llmservice_runtime.wire.errors import ApiError, body_too_large, error_text

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
T = TypeVar("T")

LINGER_SECONDS = 10.0
"""As aiohttp's."""
JSON = (b"content-type", b"application/json; charset=utf-8")


class ClientGoneError(Exception):
    """The client hung up before its body was whole; nobody is there to answer."""


class Incoming:
    """A request whose body is not read yet, as `wire.body` and `openai.requests` read it."""

    def __init__(self, scope: Scope, receive: Receive, most: int) -> None:
        self.headers = headers_of(scope)
        self._receive = receive
        self._most = most
        self._whole = False

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
                self._whole = True
                return b"".join(parts)

    @asynccontextmanager
    async def answerable(self) -> AsyncIterator[None]:
        """Around reading it: of a body that is refused the rest is taken, and thrown away, for a while. A connection
        that is closed with bytes in it is reset, and with it goes the answer."""
        try:
            yield
        except ApiError:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._thrown_away(), LINGER_SECONDS)
            raise

    async def _thrown_away(self) -> None:
        while not self._whole:
            message = await self._receive()
            self._whole = message["type"] == "http.disconnect" or not message.get("more_body", False)


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


async def while_there(receive: Receive, work: Awaitable[T]) -> T:
    """What `work` makes, as long as the client waits for it: then it is cancelled, with ClientGoneError."""
    computing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((computing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not computing.done():
            raise ClientGoneError
        return computing.result()
    finally:
        for task in (computing, leaving):
            task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await computing


@asynccontextmanager
async def entered(receive: Receive, *rooms: AbstractAsyncContextManager[Any]) -> AsyncIterator[None]:
    """In contexts that are waited for, one after the other, as long as the client waits too: then ClientGoneError. Its
    body is read."""
    async with AsyncExitStack() as stack:
        for room in rooms:
            await while_there(receive, stack.enter_async_context(room))
        yield


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (JSON,)) -> None:
    """A whole answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def refuse(send: Send, error: ApiError) -> None:
    """The one error body."""
    headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await answer(send, error.status, error_text(error), [JSON, *headers])
