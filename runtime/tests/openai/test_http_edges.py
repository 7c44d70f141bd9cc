"""What arrives that is no proper request: packed bodies, broken HTTP, clients that hang up."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.host import callers_of
from llmservice_runtime.wire.body import UNPACKED, unpack
from llmservice_runtime.wire.callers import Callers

BODY = json.dumps({"model": "demo", "prompt": "hi"}).encode()
PATH = "/v1/completions"


def packed(data: bytes) -> bytes:
    """Always the same bytes, without a time: they are a part of the tests' names."""
    return gzip.compress(data, mtime=0)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", packed(BODY)),
        ("GZip", packed(BODY)),
        ("x-gzip", packed(BODY)),
        ("gzip", packed(BODY[:9]) + packed(BODY[9:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("identity", BODY),
        ("", BODY),
    ],
)
async def test_packed_bodies_are_read(connect: Any, scripted: Any, encoding: str, body: bytes) -> None:
    client = await connect(scripted())
    reply = await client.post(PATH, data=body, headers={"Content-Encoding": encoding})
    assert reply.status == 200, await reply.text()


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("gzip", b"no gzip at all", 400, "invalid_encoding"),
        ("gzip", b"", 400, "invalid_encoding"),
        ("gzip", packed(BODY)[:-1], 400, "invalid_encoding"),
        ("gzip", packed(BODY)[:-8] + b"checksum", 400, "invalid_encoding"),
        ("gzip", packed(BODY) + b"more", 400, "invalid_encoding"),
        ("gzip", packed(b"") * 50_000 + packed(BODY), 400, "invalid_encoding"),
        ("deflate", b"\xff\xff", 400, "invalid_encoding"),
        ("deflate", zlib.compress(BODY) + b"more", 400, "invalid_encoding"),
        ("gzip", packed(b" " * (33 << 20)), 413, "request_too_large"),
        ("br", BODY, 415, "unsupported_encoding"),
        ("zstd", BODY, 415, "unsupported_encoding"),
        ("x-none", BODY, 415, "unsupported_encoding"),
        ("gzip, gzip", packed(packed(BODY)), 415, "unsupported_encoding"),
    ],
)
async def test_bodies_that_can_not_be_unpacked(
    connect: Any, scripted: Any, encoding: str, body: bytes, status: int, code: str
) -> None:
    client = await connect(scripted())
    reply = await client.post(PATH, data=body, headers={"Content-Encoding": encoding})
    assert (reply.status, (await reply.json())["error"]["code"]) == (status, code)


@given(st.sampled_from(sorted(UNPACKED)), st.binary(max_size=200), st.integers(0, 300))
def test_unpacking_gives_the_bytes_or_an_error(encoding: str, data: bytes, limit: int) -> None:
    sent = packed(data) if "gzip" in encoding else zlib.compress(data)
    assert unpack(sent, encoding, limit)[: limit + 1] == data[: limit + 1]
    with contextlib.suppress(ValueError):
        unpack(data, encoding, limit)


async def answer_to(client: Any, sent: bytes, end: bool = False) -> bytes:
    """What the server says to these bytes before it closes the connection (or all it says, when we do)."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(sent)
    await writer.drain()
    if end:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"FOO /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: magic\r\n\r\n", 417),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: magic\r\n\r\n", 417),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: " + b"a" * 5000 + b"\r\n\r\n", 417),
        (b"OPTIONS /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    ],
)
async def test_what_is_no_request_has_the_error_body(
    connect: Any, scripted: Any, caplog: Any, sent: bytes, status: int
) -> None:
    client = await connect(scripted())
    answer = await answer_to(client, sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == str(status).encode()
    assert b"application/json" in head
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "code", "param"} and error["message"] and error["code"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_expect_continue_is_met(connect: Any, scripted: Any) -> None:
    client = await connect(scripted())
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {len(BODY)}"
    )
    answer = await answer_to(client, head.encode() + b"\r\n\r\n" + BODY)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


@pytest.mark.parametrize("stream", [b"true", b"false"])
@pytest.mark.parametrize("sent", [0, 3, 60, -10, -1, None])
async def test_a_client_that_hangs_up_leaves_no_trace(
    connect: Any, scripted: Any, caplog: Any, sent: int | None, stream: bytes
) -> None:
    """At any place of its request, and while its answer is written."""
    engine = scripted(pieces=("one", asyncio.Event()))
    client = await connect(engine)
    body = b'{"prompt": "hi", "stream": ' + stream + b"}"
    request = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(request[:sent])
    await writer.drain()
    if sent is None:
        await engine.starts.get()
        if stream == b"true":
            await reader.readuntil(b"one")
    writer.transport.abort()
    if sent is None:
        await asyncio.wait_for(engine.ended.wait(), 10)
    assert (await client.get("/health")).status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type, authorization"}


@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (("https://chat.example.com",), "https://chat.example.com", True),
        (("https://Chat.example.com",), "https://chat.example.com", True),
        (("https://chat.example.com",), "https://chat.example.com:8443", False),
        (("https://chat.example.com",), "http://chat.example.com", False),
        (("*",), "https://any.example", True),
    ],
)
async def test_pages_may_call_when_the_settings_name_their_origin(
    connect: Any, scripted: Any, host: str, origins: tuple[str, ...], origin: str, allowed: bool
) -> None:
    settings = RuntimeSettings(EngineType.LLAMA_CPP, "/m.gguf", "demo", host=host, allow_origins=origins)
    client = await connect(scripted(), callers=callers_of(settings))
    asked = await client.options(PATH, headers={"Origin": origin, **PREFLIGHT})
    assert asked.status == (204 if allowed else 403)
    for body, status in ((BODY, 200), (b"{", 400), (b'{"prompt": "x", "stream": true}', 200)):
        reply = await client.post(PATH, data=body, headers={"Origin": origin})
        assert reply.status == (status if allowed else 403)
        assert reply.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
        assert reply.headers["Vary"] == "Origin"
        assert allowed or f"name {origin} in the setting `allow_origins`" in await reply.text()
    plain = await client.post(PATH, data=BODY)
    assert plain.status == 200 and "Access-Control-Allow-Origin" not in plain.headers
    assert plain.headers["Vary"] == "Origin"


def test_without_origins_a_pod_answers_whoever_reaches_it_and_loopback_no_page() -> None:
    settings = RuntimeSettings(EngineType.LLAMA_CPP, "/m.gguf", "demo", host="::")
    assert callers_of(settings) is None
    assert callers_of(replace(settings, host="127.0.0.1")) == Callers()
