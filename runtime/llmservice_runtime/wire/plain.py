"""Plain requests: a JSON body that comes whole and soon, and nothing that its server has to do but answer. Pure.

Nearly all that a gateway gets are. Read here they cost it a third of what aiohttp's server takes, which reads all
others: what is in doubt is not plain.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

MOST_HEAD, MOST = 8190, 72 << 10
"""Bytes of a plain request's head, and of all of it. A larger one is counted and bounded while it comes."""
MOST_FIELDS, LENGTH_DIGITS = 128, 8
KEEP = "keep-alive"
_HEAD = re.compile(rb"POST (/[\w.~/:-]*) HTTP/1\.1\r\n((?:[\w!#$%&'*+.^`|~-]+:[\t -~]*\r\n)+)\r\n")
_FIELD = re.compile(r"([^:]+):([^\r]*)\r\n")
_BLANKS = "\t "
_BEGINS = b"POST /"
_ASKS_MORE = frozenset(
    {
        "content-encoding",
        "expect",
        "http2-settings",
        "origin",
        "proxy-connection",
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-websocket-key1",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that ask a server for more: to read the body otherwise, to say something first, to end or change the
connection, to tell a browser what a page may read."""
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
UNTOLD = {"Content-Type": "application/octet-stream"}
"""Of a body of which nobody said what it is, as aiohttp says it: no client is to guess."""
EMPTY = frozenset({204, 304})
"""Answers without a body."""


class Verdict(Enum):
    """What is no plain request."""

    NEEDS_MORE = "its rest may come"
    ANOTHER = "it is another one"


class Plain(dict[Any, Any]):
    """One, and what an application keeps beside it; as `web.Request` has all that."""

    __slots__ = ("begun", "body", "extra", "headers", "match_info", "path", "protocol", "rest")

    method = "POST"

    def __init__(self, path: str, headers: CIMultiDict[str], body: bytes, rest: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        """Until somebody takes it..."""
        self.rest = rest
        """...and what came behind it."""
        self.match_info: Mapping[str, str] = {}
        self.extra: dict[str, str] = {}
        """Headers of its answer, whatever that is."""
        self.begun = False
        """A part of its answer is sent."""
        self.protocol: RequestHandler

    @property
    def remote(self) -> str | None:
        """The client's address."""
        peer = self.protocol.peername
        return str(peer[0]) if isinstance(peer, tuple | list) else peer


Answer = Callable[[Plain], Awaitable[web.StreamResponse]]
"""Runs in a task of its own, which is cancelled when the client leaves."""
Take = Callable[[Plain], Answer | None]
"""What answers a request; None = nothing here does, aiohttp's routes may."""


class Streamed(web.StreamResponse):
    """An answer to a plain request that is sent: nothing is left of it but its status."""

    def __init__(self, status: int) -> None:
        self._status = status


def read_plain(raw: bytes) -> Plain | Verdict:
    """The plain request that `raw` begins with."""
    head = _HEAD.match(raw)
    if head is None:
        begins = raw.startswith(_BEGINS) or _BEGINS.startswith(raw)
        return Verdict.NEEDS_MORE if begins and len(raw) <= MOST_HEAD and b"\r\n\r\n" not in raw else Verdict.ANOTHER
    fields = [(name, value.strip(_BLANKS)) for name, value in _FIELD.findall(head[2].decode("ascii"))]
    given = {name.lower(): value for name, value in fields}
    length = given.get("content-length", "")
    if (
        not len(given) == len(fields) <= MOST_FIELDS  # none stands twice
        or "host" not in given
        or not _ASKS_MORE.isdisjoint(given)
        or given.get("connection", KEEP).lower() != KEEP
        or not length.isdecimal()
        or len(length) > LENGTH_DIGITS
    ):
        return Verdict.ANOTHER
    start = head.end()
    end = start + int(length)
    if start > MOST_HEAD or end > MOST:
        return Verdict.ANOTHER
    if len(raw) < end:
        return Verdict.NEEDS_MORE
    return Plain(head[1].decode("ascii"), CIMultiDict(fields), raw[start:end], raw[end:])


def head_of(status: int, *headers: Mapping[str, str]) -> bytes:
    """The head of an answer. ValueError for a value that would end its line."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}"]
    for some in headers:
        for name, value in some.items():
            if _CONTROLS.search(value):
                raise ValueError(f"{name}: {value!r}")
            lines.append(f"{name}: {value}")
    lines.append(f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n")
    return "\r\n".join(lines).encode()


def whole_answer(response: web.Response, extra: Mapping[str, str]) -> bytes:
    """An answer that is no stream, as it is sent."""
    body = response.body or b""
    assert isinstance(body, bytes | bytearray)
    if response.status in EMPTY:
        return head_of(response.status, response.headers, extra)
    more = {**(UNTOLD if body and "Content-Type" not in response.headers else {}), "Content-Length": str(len(body))}
    return head_of(response.status, response.headers, more, extra) + body
