"""The instance as a program: ports, gateway, control socket, signals. Ends when asked to, or with its last service."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from llmservice_cli.local.access import AccessLog
from llmservice_cli.local.control import ControlServer
from llmservice_cli.local.disk import written
from llmservice_cli.local.front import Front
from llmservice_cli.local.instance import Instance
from llmservice_cli.local.launcher import LocalLauncher
from llmservice_cli.local.lock import CONTROL_SOCKET, socket_address
from llmservice_cli.local.tell import lines
from llmservice_gateway.loop import new_event_loop
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.listening import dialled, in_url, listening
from llmservice_runtime.wire.server import ApiRunner

HEARTBEAT_SECONDS = 2.0
OPEN_FILES = 65536
"""A stream takes two sockets here and one at its engine, and many shells allow 1024 files."""


def listen(host: str, port: int) -> socket.socket:
    """The gateway's socket; UserError when it can't be had. `port` 0 = the kernel chooses."""
    try:
        return listening(host, port, 1024)
    except OSError as error:
        in_use = (
            "the port is in use by another program"
            if error.errno == errno.EADDRINUSE
            else os.strerror(error.errno or 0).lower()
        )
        raise UserError(
            f"the gateway can't listen on {in_url(host)}:{port}: {in_use}.",
            "Choose another one with --port N (0 = any free one), or stop the program that has it "
            f"(`ss -ltnp 'sport = :{port}'` shows which).",
            FailureClass.PORT_IN_USE,
        ) from None


def base_url(listener: socket.socket) -> str:
    """How this machine reaches the gateway."""
    host, port = listener.getsockname()[:2]
    return f"http://{dialled(host)[0]}:{port}"


def _allow_many_files() -> None:
    """Replicas inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Program:
    """One run of an instance. `started` is called once everything answers; `end_soon` may be called from any thread.

    When the far end of `parent_fd` closes before anything was applied, nothing ever will be, and it ends.
    """

    def __init__(
        self,
        state: Path,
        listener: socket.socket,
        front: Front,
        say: Callable[[str], None],
        started: Callable[[], None],
        parent_fd: int | None = None,
    ) -> None:
        self._state = state
        self._listener = listener
        self._front = front
        self._say = say
        self._started = started
        self._parent_fd = parent_fd
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self.asked_to_end = False
        """A signal or `llmservice down` ended it."""
        self._signals = 0
        self._kicked = asyncio.Event()
        self._before: dict[str, Any] | None = None

    def run(self) -> None:
        """Until it ended and nothing of it runs any more."""
        _allow_many_files()
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._run())

    def end_soon(self) -> None:
        """Drain and end."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                self._loop.call_soon_threadsafe(self._end.set)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        access = AccessLog(self._state)
        self._instance = instance = Instance(
            self._state,
            base_url(self._listener),
            self._front.gateway(access.write),
            self._changed,
            self._front.memory_bytes,
            stays=bool(self._front.launch),
        )
        instance.open()
        launcher = LocalLauncher(instance, self._front.launch) if self._front.launch else None
        instance.gateway.launcher = launcher
        gateway = ApiRunner(
            instance.gateway.application(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )
        control = web.AppRunner(
            ControlServer(instance, self._ended_by_down, self._front).application(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=1.0,
        )
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._loop.add_signal_handler(number, self._signalled)
            self._loop.add_signal_handler(signal.SIGHUP, self._terminal_closed)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a terminal that stops its background jobs when they write
            await gateway.setup()
            await web.SockSite(gateway, self._listener, backlog=1024).start()
            await control.setup()
            with written(self._state), socket_address(self._state) as address:
                os.umask(0o077)
                await web.UnixSite(control, address).start()
            if self._parent_fd is not None:
                self._loop.add_reader(self._parent_fd, self._parent_gone)
            self._started()
            await self._until_end()
            await self._drain()
        finally:
            if launcher is not None:
                await launcher.close()
            await gateway.cleanup()
            await control.cleanup()
            await instance.close()
            access.flush()
            (self._state / CONTROL_SOCKET).unlink(missing_ok=True)

    async def _until_end(self) -> None:
        waits = [asyncio.ensure_future(self._end.wait()), asyncio.ensure_future(self._instance.ended.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _drain(self) -> None:
        """First signal: let streams finish and say how many; the second one ends them."""
        forced = self._signals > 1
        task = asyncio.ensure_future(self._instance.shutdown(force=forced))
        while not task.done():
            if running := self._instance.running:
                self._say(f"draining: {running} requests still run (interrupt again to stop at once)")
            kick = asyncio.ensure_future(self._kicked.wait())
            await asyncio.wait({task, kick}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            kick.cancel()
            self._kicked.clear()
            if self._signals > 1 and not forced:
                forced = True
                self._say("stopping at once")
                await self._instance.shutdown(force=True)
        task.result()
        self._say("stopped")

    def _ended_by_down(self) -> None:
        self.asked_to_end = True
        self._end.set()

    def _signalled(self) -> None:
        self.asked_to_end = True
        self._signals += 1
        self._kicked.set()
        self._end.set()

    def _terminal_closed(self) -> None:
        """Shell and kernel both say so, which is not the impatience of a second Ctrl-C."""
        if not self._signals:
            self._signalled()

    def _parent_gone(self) -> None:
        assert self._loop is not None and self._parent_fd is not None
        self._loop.remove_reader(self._parent_fd)
        if not (self._front.launch or self._instance.snapshot()["services"]):
            self._end.set()

    def _changed(self) -> None:
        now = self._instance.snapshot()
        for line in lines(self._before, now):
            self._say(line)
        self._before = now
