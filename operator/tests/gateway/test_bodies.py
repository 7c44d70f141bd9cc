"""What the bodies of requests take of a gateway's memory, while they come and while they wait."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from llmservice_gateway.bodies import READ_AHEAD, Bodies
from llmservice_runtime.wire.errors import ApiError
from llmservice_runtime.wire.plain import Plain

MIB = 1 << 20


def coming(bodies: Bodies, chunks: Sequence[bytes], seen: list[int], length: int | None = None) -> web.Request:
    """A request whose body comes in these pieces; `seen`: what all bodies count before each, and before its end."""

    class Payload(StreamReader):
        async def readany(self) -> bytes:
            seen.append(bodies.taken)
            return chunks[len(seen) - 1] if len(seen) <= len(chunks) else b""

    headers = {} if length is None else {"Content-Length": str(length)}
    return make_mocked_request("POST", "/", headers, payload=Payload(Mock(spec=BaseProtocol), 2**16))


@pytest.mark.parametrize(
    ("length", "ahead"), [(None, [READ_AHEAD] * 2), (2 * MIB, [READ_AHEAD, 0]), (MIB >> 1, [MIB >> 2, 0])]
)
async def test_what_is_read_ahead_counts_until_a_body_is_there(length: int | None, ahead: list[int]) -> None:
    bodies, seen, size = Bodies(8 * MIB, 4 * MIB), list[int](), length or MIB
    body = await bodies.read(coming(bodies, [b"a" * (size // 2)] * 2, seen, length))
    assert seen[0] == 0 and seen[1] >= size // 2 + ahead[0] and seen[2] >= size + ahead[1]
    assert bodies.taken == body.size == len(body.data) == size
    body.drop()
    assert bodies.taken == 0


async def test_a_plain_request_holds_nothing_of_a_body_that_was_dropped() -> None:
    """A stream may last for hours, and thousands of them beside it."""
    bodies, request = Bodies(MIB, MIB), Plain("/", CIMultiDict(), b"a" * 1000, b"")
    body = await bodies.read(request)
    assert (bodies.taken, len(body.data), request.body) == (1000, 1000, b"")
    body.drop()
    assert bodies.taken == 0


async def test_one_that_finds_no_room_leaves_what_it_took() -> None:
    bodies = Bodies(MIB, MIB)
    with pytest.raises(ApiError) as refused:
        await bodies.read(coming(bodies, [b"a" * (MIB - READ_AHEAD // 2)], []))
    assert (refused.value.status, bodies.taken) == (429, 0)
