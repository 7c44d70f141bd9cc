"""Clients that do not take what they are sent: let go, whatever it is, and none that takes a little."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from yarl import URL

from llmservice_runtime.wire.server import CLIENT_SECONDS, ApiRunner

BODY = b"x" * 20_000_000


@contextlib.asynccontextmanager
async def server(seconds: float | None) -> AsyncIterator[tuple[ApiRunner, str]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=BODY)

    app = web.Application()
    if seconds is not None:
        app[CLIENT_SECONDS] = lambda: seconds
    app.router.add_get("/", answer)
    runner = ApiRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def asked(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = URL(url).host, URL(url).port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return reader, writer


async def test_who_takes_nothing_is_let_go() -> None:
    async with server(0.3) as (runner, url):
        _, writer = await asked(url)
        async with asyncio.timeout(20):
            while runner.server is None or not runner.server.connections:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
            while runner.server.connections:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
        writer.close()


@pytest.mark.parametrize("seconds", [4.0, None])
async def test_who_takes_a_little_gets_all(seconds: float | None) -> None:
    async with server(seconds) as (_, url):
        reader, writer = await asked(url)
        await reader.readuntil(b"\r\n\r\n")
        size = 0
        while size < len(BODY):
            part = await asyncio.wait_for(reader.read(2_000_000), 20)
            assert part
            size += len(part)
            await asyncio.sleep(0.05)
        writer.close()
