"""Whether a replica may start now: what this machine has left beside what runs, of all instances of this user.

Every replica claims what its plan says before it starts, in a file that all instances see, and holds the claim to its
end: two that start at once can't both take the last of it. What a claim has not touched yet is no more free than what
it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from llmservice_cli.local.gpus import crowded
from llmservice_cli.local.holds import Hold, Memory, Need, shortage
from llmservice_cli.local.shared import shared_folder
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.machine.machine import Gpu
from llmservice_runtime.machine.probe import memory, resident
from llmservice_runtime.machine.visible import alone

CLAIM_BYTES = 8192
"""Of a claim's file; names and paths fit."""
LOOK_SECONDS = 10.0
"""For so long what the driver said of GPUs holds."""
REPLICA, INSTANCE = ".claim", ".instance"
"""How the files of replicas and of instances end."""
SHRINK = (
    "Stop or shrink what runs (`llmservice down NAME`, `llmservice scale NAME --replicas N`), or have it make room for"
    " what is asked for (scaling.minReplicas: 0)"
)
REMEDY = f"{SHRINK}, or give this one less (contextTokens, a smaller version). It starts by itself once there is room."


class Claim:
    """A replica's place in memory and its GPUs, until `release`: a file that is locked as long as this process lives.

    Another `kind` is something else that lasts as long.
    """

    def __init__(self, folder: Path, body: dict[str, Any], kind: str = REPLICA) -> None:
        self.gpus: tuple[Gpu, ...] = ()
        self.crowded = ""
        """What other programs have of them, where it may be too much: a sentence."""
        self.narrows = False
        """Whether there are other GPUs than these."""
        self.ended = False
        self._body = body
        self._fd, self._path = -1, ""
        with contextlib.suppress(OSError):  # on a full disk this process alone knows of it
            self._fd, self._path = tempfile.mkstemp(kind, dir=folder)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._write()

    @property
    def untold(self) -> dict[str, Any] | None:
        """What its file would say, which there is not; None = there is, or it has ended."""
        return None if self.ended or self._fd >= 0 else self._body

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What is to be added to `environ` so that an engine sees its GPUs alone. The only one is seen as it is."""
        return alone(self.gpus, {**os.environ, **environ}) if self.gpus and self.narrows else {}

    def runs_in(self, pid: int) -> None:
        """The process whose memory fills it."""
        if pid != self._body["engine"]:
            self._body["engine"] = pid
            self._write()

    def release(self) -> None:
        """It has ended."""
        self.ended = True
        self._forget_file()

    def _forget_file(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108 - a name that mkstemp made
            os.close(self._fd)
            self._fd = -1

    def _write(self) -> None:
        """In one piece of one size, so that a reader never sees half of it."""
        if self._fd >= 0:
            text = json.dumps(self._body).encode().ljust(CLAIM_BYTES)
            try:
                whole = os.pwrite(self._fd, text, 0) == len(text)
            except OSError:
                whole = False
            if not whole:
                self._forget_file()


class Room:
    """All claims on this machine. `limit`: bytes that the replicas of this process may have together. `read` gives
    (total, free) bytes, `gpus` those that replicas may have; tests replace both."""

    def __init__(
        self,
        folder: Path | None = None,
        read: Callable[[], tuple[int, int]] = memory,
        limit: int | None = None,
        gpus: Callable[[], tuple[Gpu, ...]] = tuple,
    ) -> None:
        self._folder = folder or shared_folder()
        self._read = read
        self._limit = limit
        self._ask = gpus
        self._gpus: tuple[Gpu, ...] = ()
        self._made: list[Claim] = []
        self._alone = threading.Lock()
        self._asked_at = -math.inf

    def claim(
        self, service: str, need: Need, replica: str = "", ahead: Callable[[], Sequence[Need]] = tuple
    ) -> Claim | FailureRecord:
        """Room for a replica, or DoesNotFit with who has what. Blocks for milliseconds (reads /proc), and for as long
        as the driver takes where it is about GPUs.

        `ahead` gives what others wait for who come before it.
        """
        need = replace(need, model=real(need.model))
        if need.gpus.count:
            self._look()
        with self._locked():
            memory, before = self._memory(), ahead()
            if said := shortage(service, need, memory, before):
                return FailureRecord(FailureClass.DOES_NOT_FIT, said, REMEDY, Phase.STARTING.value)
            gpus = memory.after(before).choose(need.gpus)
            body = {
                "service": service,
                "model": need.model,
                "promised": need.bytes,
                "engine": 0,
                "instance": os.getpid(),
                "replica": replica,
                "gpus": [gpu.id for gpu in gpus],
            }
            claim = Claim(self._folder, body)
            self._made = [*(one for one in self._made if not one.ended), claim]
        claim.gpus, claim.narrows, claim.crowded = gpus, len(self._gpus) > 1, crowded(need.gpus, gpus)
        return claim

    def _look(self) -> None:
        """At the GPUs; a driver that says nothing now leaves what it said before."""
        if time.monotonic() - self._asked_at > LOOK_SECONDS:
            self._gpus = self._ask() or self._gpus
            self._asked_at = time.monotonic()

    def memory(self) -> Memory:
        """What there is now, and who has it. Blocks for milliseconds; reads /proc."""
        with self._locked():
            return self._memory()

    def holds(self) -> list[Hold]:
        """What runs, of all instances."""
        with self._locked():
            return self._holds()

    def announce(self, state: Path) -> Claim:
        """An instance with this state folder runs, until its release."""
        with self._locked():
            return Claim(self._folder, {"state": str(state.absolute())}, INSTANCE)

    def instances(self) -> list[Path]:
        """State folders of all instances that run."""
        with self._locked():
            bodies = list(self._read_all(INSTANCE))
        return [Path(body["state"]) for body in bodies if isinstance(body.get("state"), str)]

    def _memory(self) -> Memory:
        total, free = self._read()
        return Memory(total, free, tuple(self._holds()), self._limit, os.getpid(), self._gpus)

    def _holds(self) -> list[Hold]:
        found = []
        for body in (*self._read_all(REPLICA), *(one.untold for one in self._made if one.untold)):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                here, mapped = resident(int(body["engine"])) if body["engine"] else (0, 0)
                promised, instance = int(body["promised"]), int(body["instance"])
                replica = str(body.get("replica", ""))  # an instance of an earlier release says none
                gpus = tuple(map(str, body.get("gpus", ())))
                found.append(Hold(body["service"], body["model"], promised, here, mapped, instance, replica, gpus))
        return found

    def _read_all(self, kind: str) -> Iterator[dict[str, Any]]:
        """What files of a kind say; those that a dead process left are removed."""
        for path in sorted(self._folder.glob(f"*{kind}")):
            with contextlib.suppress(OSError, ValueError), path.open() as file:
                if _unowned(file):
                    path.unlink(missing_ok=True)
                elif isinstance(body := json.load(file), dict):
                    yield body

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time, of all instances; where the folder can't be used, of this one alone."""
        with self._alone, self._folder_locked():
            yield

    @contextlib.contextmanager
    def _folder_locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._folder.lstat().st_uid != os.getuid():  # in /tmp anybody may have made it, to hold us up
                self._folder = Path(os.devnull) / "claims"
                raise PermissionError
            fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


@functools.lru_cache
def real(model: str) -> str:
    """A model's file by the name that all claims have for it."""
    return str(Path(model).resolve())


def _unowned(file: IO[str]) -> bool:
    """Whether the process that made a claim is gone."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
