"""The life of an engine process as its supervisor sees it: reports, signals, the lifeline."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.report import LIFELINE_FD_ENV, REPORT_FD_ENV
from llmservice_runtime.contract.settings import RuntimeSettings

CHAT = {"messages": [{"role": "user", "content": "ping"}], "stream": True}


class Hosted:
    """A running process, its reports and its lifeline."""

    def __init__(self, child: asyncio.subprocess.Process, reports: asyncio.StreamReader, lifeline: int) -> None:
        self.child = child
        self.lifeline = lifeline
        self._reports = reports

    async def report(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next report of this kind with these fields."""
        async with asyncio.timeout(20):
            while line := await self._reports.readline():
                body: dict[str, Any] = json.loads(line)
                if body["kind"] == kind and fields.items() <= body.items():
                    return body
        raise AssertionError(f"no report {kind} {fields}")

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.child.wait(), 20)


Host = Callable[..., Awaitable[Hosted]]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """host(mode, **settings) -> Hosted."""
    started: list[Hosted] = []

    async def start(mode: str = "ok", **fields: Any) -> Hosted:
        values = {"engine": EngineType.LLAMA_CPP, "model_path": "/m", "model_name": "demo", "port": 0, **fields}
        settings = tmp_path / "settings.json"
        settings.write_text(RuntimeSettings(**values).to_json())
        report_read, report_write = os.pipe()
        lifeline_read, lifeline_write = os.pipe()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("scripted_host.py")),
            str(settings),
            mode,
            pass_fds=(report_write, lifeline_read),
            env={**os.environ, REPORT_FD_ENV: str(report_write), LIFELINE_FD_ENV: str(lifeline_read)},
        )
        os.close(report_write)
        os.close(lifeline_read)
        reader = asyncio.StreamReader()
        pipe = os.fdopen(report_read, "rb")
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        started.append(Hosted(child, reader, lifeline_write))
        return started[-1]

    yield start
    for hosted in started:
        if hosted.child.returncode is None:
            hosted.child.kill()
            await hosted.child.wait()
        if hosted.lifeline >= 0:
            os.close(hosted.lifeline)
        await hosted._reports.read()


async def test_ready_after_phases_and_a_self_test(host: Host) -> None:
    hosted = await host()
    for phase in ("Starting", "Loading", "SelfTest"):
        await hosted.report("phase", phase=phase)
    ready = await hosted.report("ready")
    async with ClientSession(f"http://127.0.0.1:{ready['port']}") as session:
        async with session.get("/health") as reply:
            assert reply.status == 200
        async with session.get("/metrics") as reply:
            assert 'llmservice:load_phase_seconds{engine="0",model_name="demo",phase="Loading"}' in await reply.text()
    assert ready["load_seconds"] > 0


async def test_a_port_in_use_is_named(host: Host) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        hosted = await host(port=port)
        failure = await hosted.report("failure")
    assert failure["failure"] == "PortInUse"
    assert str(port) in failure["message"]
    assert await hosted.exit_code() == 1


@pytest.mark.parametrize(("mode", "failure"), [("memory", "OutOfMemory"), ("mute", "SelfTestFailed")])
async def test_what_fails_while_loading_keeps_its_class(host: Host, mode: str, failure: str) -> None:
    hosted = await host(mode)
    assert (await hosted.report("failure"))["failure"] == failure
    assert await hosted.exit_code() == 1


async def test_after_a_self_test_that_failed_a_model_that_is_whole_serves(host: Host) -> None:
    """What SelfTestFailed says to do: another file takes the place of the one that says nothing."""
    mute = await host("mute")
    assert "whole" in (await mute.report("failure"))["remedy"]
    assert await mute.exit_code() == 1
    whole = await host()
    assert (await whole.report("ready"))["port"]


async def test_sigterm_while_loading_ends_at_once(host: Host) -> None:
    hosted = await host("slow")
    await hosted.report("phase", phase="Loading", progress=0.5)
    hosted.child.send_signal(signal.SIGTERM)
    assert await hosted.exit_code() == 0


async def test_drain_ends_streams_with_an_error_and_exits_with_0(host: Host) -> None:
    hosted = await host(drain_seconds=1)
    port = (await hosted.report("ready"))["port"]
    async with (
        ClientSession(f"http://127.0.0.1:{port}") as session,
        session.post("/v1/chat/completions", json=CHAT) as reply,
    ):
        await reply.content.readuntil(b"one")
        await hosted.report("step", running=1)
        hosted.child.send_signal(signal.SIGTERM)
        await hosted.report("phase", phase="Draining")
        async with session.post("/v1/chat/completions", json=CHAT) as refused:
            assert refused.status == 503
        rest = await reply.content.read()
    assert b'"code":"draining"' in rest
    assert b"[DONE]" not in rest
    assert await hosted.exit_code() == 0


async def test_a_second_signal_ends_at_once(host: Host) -> None:
    hosted = await host(drain_seconds=100)
    port = (await hosted.report("ready"))["port"]
    async with (
        ClientSession(f"http://127.0.0.1:{port}") as session,
        session.post("/v1/chat/completions", json=CHAT) as reply,
    ):
        await reply.content.readuntil(b"one")
        hosted.child.send_signal(signal.SIGTERM)
        await hosted.report("phase", phase="Draining")
        hosted.child.send_signal(signal.SIGINT)
        assert await hosted.exit_code() == 128 + signal.SIGINT


async def test_no_orphan_when_the_lifeline_closes(host: Host) -> None:
    hosted = await host("slow")
    await hosted.report("phase", phase="Loading", progress=0.5)
    os.close(hosted.lifeline)
    hosted.lifeline = -1
    assert await hosted.exit_code() == 3


async def test_a_step_report_says_when_the_last_request_has_ended(host: Host) -> None:
    hosted = await host()
    port = (await hosted.report("ready"))["port"]
    async with ClientSession(f"http://127.0.0.1:{port}") as session:
        reply = await session.post("/v1/chat/completions", json=CHAT)
        await reply.content.readuntil(b"one")
        await hosted.report("step", running=1)
        reply.close()
        await hosted.report("step", running=0)
