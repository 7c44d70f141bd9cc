"""A supervisor as a child process that can't outlive us, with its output in a bounded log file."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from llmservice_runtime.contract.report import LIFELINE_FD_ENV

LOG_BYTES = 8 * 1024 * 1024
"""A log that grew beyond this becomes `<name>.1`; there is one such older part."""
SUPERVISOR = (
    sys.executable,
    "-P",
    "-c",
    "import sys; from llmservice_runtime.cli import main; sys.exit(main())",
    "serve",
)
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class SupervisorProcess:
    """A running `llmservice-runtime serve`. Create it in the main thread, inside the event loop.

    The kernel kills it when we die, and the lifeline that it holds ends; its engine hangs on it in the same way.
    """

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        rotate(log)
        lifeline, self._lifeline = os.pipe()
        try:
            with log.open("ab") as output:
                self._child = subprocess.Popen(
                    [*SUPERVISOR, *arguments],
                    env={**os.environ, LIFELINE_FD_ENV: str(lifeline), "PYTHONUNBUFFERED": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(lifeline,),
                    start_new_session=True,
                    preexec_fn=_die_with(os.getpid()),
                )
        except OSError:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline)
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(self._child.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it still runs. SIGTERM drains, a second one ends at once."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        code = self._child.wait()
        os.close(self._pidfd)
        os.close(self._lifeline)
        if not self.exited.done():
            self.exited.set_result(code)


def rotate(log: Path) -> None:
    """Bound a log that others append to: its text moves to `<name>.1`, the file itself stays where they write.

    On a full disk the text is lost, and nothing else.
    """
    older = log.with_name(log.name + ".1")
    with contextlib.suppress(OSError):
        if log.stat().st_size <= LOG_BYTES:
            return
        try:
            older.write_bytes(log.read_bytes()[-LOG_BYTES:])
        except OSError:
            older.unlink(missing_ok=True)
        os.truncate(log, 0)


def _die_with(parent: int) -> Callable[[], None]:
    """Runs in the child before exec: die when the parent does, also when it died just now."""

    def arm() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arm
