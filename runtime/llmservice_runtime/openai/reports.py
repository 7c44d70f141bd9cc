"""Writing reports to the supervisor, and dying with it."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.report import CONTROL_FD_ENV, LIFELINE_FD_ENV, REPORT_FD_ENV, Phase, ReportKind

PR_SET_PDEATHSIG = 1
ORPHANED = 3
"""Exit code when the parent is gone; nobody is there to read it."""


STEP_REPORT_SECONDS = 1.0
"""Between reports while requests run."""
REST_SECONDS = 0.05
"""Without requests for so long: the last one has ended. Who asks short questions one after the other would else wake
the supervisor twice for each, beside threads that compute: a tenth of the time of a short vector."""
MESSAGE = 700
"""Characters of a message of one adapter: a line of the pipe has room for all of them."""


class Reporter:
    """Report lines on the descriptor that the supervisor gave; without one, nowhere."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    @staticmethod
    def from_environment() -> Reporter:
        """The descriptor that the environment names."""
        fd = os.environ.get(REPORT_FD_ENV, "")
        return Reporter(int(fd) if fd.isdigit() else None)

    def phase(self, phase: Phase, progress: float | None = None, detail: str = "") -> None:
        """A phase began, or moved on; `progress` is 0..1."""
        self._line(ReportKind.PHASE, phase=phase, progress=progress, detail=detail or None)

    def ready(self, port: int, load_seconds: float, detail: dict[str, Any], told: bool = False) -> None:
        """The API answers on `port`. `told` = it drains when it is told on the control pipe, not by SIGTERM."""
        seconds = round(load_seconds, 3)
        self._line(ReportKind.READY, port=port, load_seconds=seconds, detail=detail, told=told or None)

    def drained(self) -> None:
        """Nothing runs any more."""
        self._line(ReportKind.DRAINED)

    def step(self, running: int, waiting: int, steps: int, seconds: float = 0.0, kv_used: float | None = None) -> None:
        """Work in hand, steps done so far, what the one at hand is expected to take (0 = not known), and the share of
        the KV cache that answers in hand use (None = not measured)."""
        used = None if kv_used is None else round(kv_used, 4)
        self._line(
            ReportKind.STEP,
            running=running,
            waiting=waiting,
            steps=steps,
            seconds=round(seconds, 3) or None,
            kv_used=used,
        )

    def adapters(self, turn: int, loaded: Iterable[str], failed: Mapping[str, UserError]) -> None:
        """An order of adapters is carried out: those that are loaded now, and why others are not."""
        why = {name: {"failure": error.failure, "message": str(error)[:MESSAGE]} for name, error in failed.items()}
        self._line(ReportKind.ADAPTERS, turn=turn, loaded=list(loaded), failed=why)

    def failure(self, error: UserError) -> None:
        """The last line of a process that ends because of it."""
        self._line(ReportKind.FAILURE, failure=error.failure, message=error.reason, remedy=error.remedy)

    def _line(self, kind: ReportKind, **fields: Any) -> None:
        if self._fd is None:
            return
        body = {"kind": kind, **{name: value for name, value in fields.items() if value is not None}}
        try:
            os.write(self._fd, json.dumps(body, ensure_ascii=False).encode() + b"\n")
        except BrokenPipeError:
            # The supervisor is gone; the lifeline ends this process.
            self._fd = None


async def report_work(busy: asyncio.Event, idle: asyncio.Event, report: Callable[[], Awaitable[None]]) -> None:
    """Have a report made when requests come, every second while they run, and once more when the last has ended.

    `busy` is set while some run, `idle` while none do. Never ends.
    """
    while True:
        await busy.wait()
        await report()
        while not await _within(STEP_REPORT_SECONDS, _rest(busy, idle)):
            await report()
        await report()


async def _rest(busy: asyncio.Event, idle: asyncio.Event) -> None:
    """Wait until no request came for a while after the last."""
    await idle.wait()
    while await _within(REST_SECONDS, busy.wait()):
        await idle.wait()


async def _within(seconds: float, waiting: Coroutine[Any, Any, object]) -> bool:
    """Whether it ends in time; if not, it is cancelled."""
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return False
    return True


def control_lines() -> Iterator[Any]:
    """What the supervisor says on the control pipe, line by line; blocks. Ends when it is gone."""
    fd = os.environ.get(CONTROL_FD_ENV, "")
    if not fd.isdigit():
        return
    with open(int(fd), encoding="utf-8", closefd=False) as lines:
        for line in lines:
            yield json.loads(line)


def die_with_parent() -> None:
    """End at once when the supervisor dies, however it died: by the kernel's signal, and by the lifeline's EOF.

    A process that was started by hand has no lifeline and outlives its shell.
    """
    fd = os.environ.get(LIFELINE_FD_ENV, "")
    if fd.isdigit():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        threading.Thread(target=_wait_for_end, args=(int(fd),), name="lifeline", daemon=True).start()


def _wait_for_end(fd: int) -> None:
    while os.read(fd, 1):
        pass
    os._exit(ORPHANED)
