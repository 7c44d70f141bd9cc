"""A process that may be lost: it does what a stranger wrote (a template, a grammar), within bounds of time and memory.

Frames go both ways over a socket, one question at a time: JSON, and bytes as they are, for what is large. What hangs is
killed, what crashes is gone, and the next question starts another process. The engine feels nothing of that.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

MEMORY = 256 << 20
"""Bytes that a worker may take beyond what it has when it starts."""
START_SECONDS = 30.0
"""For Python and its imports, on a busy machine; beyond what a question may take."""
OUT_OF_MEMORY, NO_ROOM = 12, 13
"""Exit codes: what a question may take was not enough; the container has no more to give."""
CGROUP = Path("/sys/fs/cgroup")
KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)
"""Exit codes that come from outside, when it is not us."""
SIZES = struct.Struct("!II")
"""Of a frame: bytes of JSON, and of what is no JSON."""


class LostError(Exception):
    """There is no answer, and the process is gone; the message says why, to stand behind a subject."""


class KilledError(LostError):
    """Somebody else ended or stopped the process (no memory is left on the machine, say): no fault of the question."""


class Worker:
    """`python -m MODULE`, which calls `serve`; started with its first question, or by `start`. Thread-safe."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._greeted = False
        self._told: Any = None

    def start(self) -> None:
        """Let it import what it needs while others go on. Does not wait for it."""
        with self._lock:
            self._connected()

    def ask(self, question: Any, seconds: float, first: Any = None) -> Any:
        """The answer; LostError when it takes longer than that, or the process ends. Blocks.

        `first` is a question that a process must have answered before; it is asked when another one was, or none.
        """
        return self.ask_apart(question, b"", seconds, first)[0]

    def ask_apart(self, question: Any, data: bytes, seconds: float, first: Any = None) -> tuple[Any, bytes]:
        """`ask` with bytes beside the question; the answer, with its bytes."""
        with self._lock:
            try:
                return self._ask(question, data, seconds, first)
            except KilledError:
                return self._ask(question, data, seconds, first)

    def claim(self, first: Any = None) -> socket.socket | None:
        """Where a process waits for a question, which has answered `first`; None = there is none now. Blocks nobody.

        Whoever gets one asks there and then releases it.
        """
        if not self._lock.acquire(blocking=False):
            return None
        if self._socket is not None and self._greeted and (first is None or self._told is first):
            return self._socket
        self._lock.release()
        return None

    def release(self, error: BaseException | None = None, seconds: float = 0.0) -> LostError | None:
        """After `claim`. With an error (no answer came, perhaps for so long) the process is ended first; why."""
        try:
            return None if error is None else self._lost(error, seconds)
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the process; a later question starts another."""
        with self._lock:
            self._end()

    def __del__(self) -> None:
        self._end()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            try:
                with theirs:
                    self._process = subprocess.Popen([sys.executable, "-P", "-m", self._module], stdin=theirs.fileno())
            except OSError as error:
                self._end()
                raise LostError(f"got no process to run in: {error.strerror}") from error
            self._greeted, self._told = False, None
        return self._socket

    def _ask(self, question: Any, data: bytes, seconds: float, first: Any) -> tuple[Any, bytes]:
        connection = self._connected()
        if not self._greeted:
            self._receive(connection, START_SECONDS)
            self._greeted = True
        if first is not None and self._told is not first:
            self._receive(connection, seconds, frame([seconds, first]))
            self._told = first
        return self._receive(connection, seconds, frame([seconds, question], data))

    def _receive(self, connection: socket.socket, seconds: float, data: bytes = b"") -> tuple[Any, bytes]:
        """Send `data`; then the next frame."""
        try:
            connection.settimeout(seconds)
            connection.sendall(data)
            return _read(connection, time.monotonic() + seconds)
        except OSError as error:
            raise self._lost(error, seconds) from error

    def _lost(self, error: BaseException, seconds: float) -> LostError:
        """End the process, which does not answer any more; why."""
        if not isinstance(error, OSError) or isinstance(error, TimeoutError):
            stopped = self._process is not None and _stopped(self._process.pid)
            self._end()
            return KilledError("was stopped") if stopped else LostError(f"took more than {seconds:g} s")
        code = self._end(patience=1.0)
        known = {
            OUT_OF_MEMORY: "took more memory than it may",
            NO_ROOM: "found no memory left",
            -signal.SIGALRM: f"took more than {seconds:g} s",
        }
        kind = KilledError if code in (*KILLED, NO_ROOM) else LostError
        return kind(known.get(code, f"ended its process with {code}"))

    def _end(self, patience: float = 0.0) -> int:
        """The exit code; negative = signal."""
        process, connection, self._process, self._socket = self._process, self._socket, None, None
        if connection is not None:
            connection.close()
        if process is None:
            return 0
        try:
            return process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _stopped(pid: int) -> bool:
    """Whether a signal (or a debugger) holds a process: it can't answer, whatever it is asked."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False


def serve(answer: Callable[[Any], Any], memory: int = MEMORY) -> None:
    """Answer questions from standard input until its other end closes.

    A question that outlasts its time ends the process, also when nobody is there any more to end it.
    """
    serve_apart(lambda question, _: (answer(question), b""), memory)


def serve_apart(answer: Callable[[Any, bytes], tuple[Any, bytes]], memory: int = MEMORY, left: int = 2) -> None:
    """`serve` for questions and answers with bytes beside them; one of `left` parts of the room is for others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's, meant for the engine
    within = most = _limit(memory)
    with socket.socket(fileno=os.dup(0)) as connection:
        try:
            connection.sendall(frame(None))
            while True:
                (seconds, question), data = _read(connection, None)
                signal.setitimer(signal.ITIMER_REAL, seconds + 1)
                within = _keep_within(most, left)
                found = frame(*answer(question, data))
                signal.setitimer(signal.ITIMER_REAL, 0)
                connection.sendall(found)
        except MemoryError:
            os._exit(OUT_OF_MEMORY if within == most else NO_ROOM)
        except OSError:
            return


def _limit(memory: int) -> int:
    """The bytes of address space that this process may have in all."""
    most = _taken() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        # Where memory runs out all the same, this is what is to go, not the engine.
        Path("/proc/self/oom_score_adj").write_text("1000")
    return most


def _keep_within(most: int, left: int) -> int:
    """Leave one of `left` parts of what the container has left: where the kernel ends all of it when one process takes
    too much (`memory.oom.group`, as the kubelet sets it), a question must never be what fills it. Bytes."""
    room = room_in(CGROUP)
    within = most if room is None else min(most, _taken() + room - room // left)
    resource.setrlimit(resource.RLIMIT_AS, (within, most))
    return within


def room_in(cgroup: Path) -> int | None:
    """Bytes that a cgroup may still take, page cache that it can drop included; None = it has no limit."""
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return max(limit - used + int(statistics.get("inactive_file", 0)), 0)
    except (OSError, ValueError):  # another version of cgroups, or `max`
        return None


def _taken() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def frame(body: Any, data: bytes = b"") -> bytes:
    text = json.dumps(body).encode()
    return b"".join((SIZES.pack(len(text), len(data)), text, data))


def _read(connection: socket.socket, end: float | None) -> tuple[Any, bytes]:
    """The next frame, before `end` (None = whenever it comes)."""
    text, data = SIZES.unpack(_exactly(connection, SIZES.size, end))
    return json.loads(_exactly(connection, text, end)), _exactly(connection, data, end)


def _exactly(connection: socket.socket, size: int, end: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        connection.settimeout(None if end is None else max(end - time.monotonic(), 0.001))
        if not (more := connection.recv(min(size - len(data), 1 << 20))):
            raise ConnectionResetError
        data += more
    return bytes(data)
