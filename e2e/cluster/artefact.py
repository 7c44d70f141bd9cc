"""What is made once for everybody who shares the cache: whole or not there, and by one maker at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.console import Clock, stage
from cluster.layout import cache

Maker = Callable[[Path, Path], None]
"""Fills an empty folder, and writes what it does to a log."""
LOOK_SECONDS = 0.1
_LOCKS = Path("/run/lock")
"""Where a machine keeps locks; gone with a restart, as their holders are."""


def obtain(key: str, what: str, make: Maker) -> Path:
    """The folder `key` names, from the cache or made now; `key` says what it is made from, `what` is told meanwhile.

    `make` fills a private folder, that becomes the artefact by one rename: nobody sees a half, and what is killed or
    fails is made anew by the next. Everything that belongs to it is made there: what is found is never added to.
    """
    made = cache() / key / "made"
    if made.exists():
        return made
    with alone(key):
        if not made.exists():
            with stage(what):
                private = made.with_name("making")
                shutil.rmtree(private, ignore_errors=True)
                private.mkdir(parents=True)
                make(private, log_of(key))
                private.rename(made)
    return made


def log_of(key: str) -> Path:
    """What its maker wrote."""
    return cache() / key / "make.log"


def machine() -> Path:
    """The folder of locks on what is this user's on the whole machine, whichever cache is used."""
    return (_LOCKS if _LOCKS.is_dir() else Path("/tmp")) / f"llmservice-{os.geteuid()}"


@contextmanager
def alone(name: str, where: Path | None = None) -> Iterator[None]:
    """Nobody else is in a block of this name. The kernel frees it when its holder dies.

    `where`: the folder of the lock, that says among whom (default: the cache, so all who share that).
    """
    folder = where or cache()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as lock:
        clock = Clock(f"another process is at {name}; waiting for it")
        while not _taken(lock.fileno()):
            time.sleep(LOOK_SECONDS)
            clock.tell()
        yield


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
