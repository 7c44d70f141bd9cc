"""What is told to people never waits for them."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from llmservice_runtime.contract.outlet import Outlet, OutletHandler


def filled() -> tuple[int, int, int]:
    """A pipe whose buffer is full: its ends, and the bytes in it."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    size = 0
    try:
        while True:
            size += os.write(write, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    return read, write, size


def test_what_nobody_reads_is_dropped_beyond_a_limit_and_counted() -> None:
    read, write, size = filled()
    outlet = Outlet(write, limit=100)
    for _ in range(50):
        outlet.write(b"0123456789")
    assert outlet.dropped == 400
    assert not outlet.flush(0.01)
    taken = os.read(read, size)
    assert outlet.flush(10)
    note = b"\n... 400 bytes were dropped here: nobody took them.\n"
    while not taken.endswith(note):
        taken += os.read(read, 65536)
    assert taken.lstrip(b".") == b"0123456789" * 10 + note
    outlet.write(b"more\n")
    assert os.read(read, 100) == b"more\n"
    os.close(read)
    os.close(write)


def test_what_could_not_be_written_is_told_when_it_goes_on(tmp_path: Path) -> None:
    """A reader that is gone, a disk that is full; then there is room again."""
    read, write = os.pipe()
    os.close(read)
    outlet = Outlet(write)
    for path in (None, "/dev/full", tmp_path / "log"):
        if path is not None:
            other = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.dup2(other, write)
            os.close(other)
        for _ in range(2):
            outlet.write(b"abc\n")
            assert outlet.flush(10)
    said = (tmp_path / "log").read_text()
    assert said == "\n... 16 bytes were dropped here: nobody took them.\nabc\nabc\n"
    os.close(write)


def test_another_may_make_it_non_blocking() -> None:
    read, write, size = filled()
    os.set_blocking(write, False)
    outlet = Outlet(write)
    outlet.write(b"late\n")
    assert not outlet.flush(0.05)
    taken = os.read(read, size)
    assert outlet.flush(10)
    while not taken.endswith(b"late\n"):
        taken += os.read(read, 65536)
    os.close(read)
    os.close(write)


def test_many_threads_lose_nothing_and_mix_no_lines() -> None:
    read, write = os.pipe()
    outlet = Outlet(write)
    log = logging.Logger("test")
    log.addHandler(OutletHandler(outlet))

    def tell(number: int) -> None:
        for line in range(200):
            log.warning("%d %d", number, line)

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    with os.fdopen(read) as lines:
        found = [lines.readline() for _ in range(800)]
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(f"{n} {i}\n" for n in range(4) for i in range(200))
    os.close(write)
