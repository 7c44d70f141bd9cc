"""kopf's requests, over a session of ours: what it would parse with a recursive parser is read by `answers` first."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import kopf
from aiohttp.connector import Connection

from llmservice_kube.answers import MOST_WEIGHT, answer, event

MOST_OF_A_PAGE = MOST_WEIGHT


@dataclass(frozen=True, kw_only=True)
class Session(kopf.AiohttpSession):
    """Credentials of which kopf makes a session whenever it needs one, as it does of its own kind.

    kopf closes sessions and goes on, so one that is given to it once is not enough. Equal when the credentials are:
    kopf knows again those that were refused, and does not try them on and on.
    """

    authorization: str | None
    ssl_context: ssl.SSLContext | bool = field(compare=False)
    aiohttp_session: aiohttp.ClientSession = field(init=False, compare=False, repr=False)

    def __getattr__(self, name: str) -> aiohttp.ClientSession:
        """A new session; the field of that name is never set."""
        if name != "aiohttp_session":
            raise AttributeError(name)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self.ssl_context),
            headers={"Authorization": self.authorization} if self.authorization else {},
            response_class=Response,
        )


class Response(aiohttp.ClientResponse):
    """Answers in which an object that can't be parsed is marked, not the end of all."""

    async def start(self, connection: Connection) -> Response:
        """As aiohttp does; only lines of a watch are read in chunks."""
        await super().start(connection)
        self.content = _Lines(self.content)  # type: ignore[assignment]
        return self

    async def json(self, **options: Any) -> Any:
        """An answer; what refuses is read as aiohttp does.

        Of a page that is too large to be held at once the end is left out: the relist after kopf's list brings it.
        """
        if self.status >= 400:
            return await super().json(**options)
        return await asyncio.to_thread(answer, await self.read(), MOST_OF_A_PAGE)


class _Lines:
    """A stream whose chunks are whole lines, each of them an event that can be parsed."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield event(line) + b"\n"
        yield rest
