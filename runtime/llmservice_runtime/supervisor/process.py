"""One engine child: started with its pipes, watched through a pidfd, ended with its whole process group.

It can't outlive the supervisor: the kernel kills it when the supervisor dies (PR_SET_PDEATHSIG), and its end of the
lifeline reports EOF to engines that run under a shell of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llmservice_runtime.contract.report import CONTROL_FD_ENV, LIFELINE_FD_ENV, REPORT_FD_ENV
from llmservice_runtime.supervisor.pipes import LinePipe, Tail

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
CONTROL_BYTES = 1 << 20
"""Room of the control pipe: an order of all adapters, with long paths, and one to drain behind it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the child ended: exit code (negative = signal), peak resident memory in bytes, last lines of output."""

    code: int
    peak_memory: int
    tail: tuple[str, ...]


class EngineProcess:
    """A running engine. Create it inside the event loop; OSError when the command can't be started."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        on_report: Callable[[bytes], None],
        on_exit: Callable[[Ending], None],
        on_output: tuple[Callable[[bytes], None], Callable[[bytes], None]],
    ) -> None:
        """`on_output`: who gets its stdout and its stderr as it comes; neither may wait for anybody."""
        self._on_exit = on_exit
        self._log = Tail()
        report_read, report_write = os.pipe()
        lifeline_read, self._lifeline = os.pipe()
        control_read, self._control = os.pipe()
        with contextlib.suppress(OSError):  # more than this user may have
            fcntl.fcntl(self._control, fcntl.F_SETPIPE_SZ, CONTROL_BYTES)
        given = {REPORT_FD_ENV: report_write, LIFELINE_FD_ENV: lifeline_read, CONTROL_FD_ENV: control_read}
        try:
            self._child = subprocess.Popen(
                command,
                env={**env, **{name: str(fd) for name, fd in given.items()}},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=tuple(given.values()),
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
                bufsize=0,
            )
        except OSError:
            os.close(report_read)
            os.close(self._lifeline)
            os.close(self._control)
            raise
        finally:
            for fd in given.values():
                os.close(fd)
        assert self._child.stdout is not None and self._child.stderr is not None
        self._pipes = [
            LinePipe(report_read, on_report),
            LinePipe(os.dup(self._child.stdout.fileno()), self._log.line, on_output[0]),
            LinePipe(os.dup(self._child.stderr.fileno()), self._log.line, on_output[1]),
        ]
        self._child.stdout.close()
        self._child.stderr.close()
        self._pidfd = os.pidfd_open(self._child.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    @property
    def pid(self) -> int:
        """Process id, also its process group and session."""
        return self._child.pid

    def terminate(self) -> None:
        """SIGTERM to the engine itself: it drains."""
        self._send(signal.SIGTERM)

    def drain(self, seconds: float) -> None:
        """Tell it to drain: it reports when it has."""
        self.tell(json.dumps({"drain": seconds}).encode() + b"\n")

    def tell(self, line: bytes) -> None:
        """A line on its control pipe, with room for what is told before it is read; one that is gone needs none."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, line)

    def kill(self) -> None:
        """SIGKILL to the engine and all it started."""
        self._kill_group()
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _ended(self) -> None:
        """The child is a zombie: end what it left running, then collect it, so that its group id can't be reused."""
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._kill_group()
        _, status, usage = os.wait4(self._child.pid, 0)
        self._child.returncode = os.waitstatus_to_exitcode(status)
        os.close(self._pidfd)
        os.close(self._lifeline)
        os.close(self._control)
        for pipe in self._pipes:
            pipe.close()
        self._on_exit(Ending(self._child.returncode, usage.ru_maxrss * 1024, tuple(self._log.tail)))


def _die_with(parent: int) -> Callable[[], None]:
    """Runs in the child before exec: die when the parent does, also when it died just now."""

    def arm() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arm
