"""What this machine's CPUs read of memory, and what their caches hold."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path
from typing import Any

import pytest

from llmservice_runtime.machine.memory_speed import CACHES, MOST, cache_bytes, measured, too_large


def a_cache(root: Path, cpu: int, index: int, level: int, size: str, shared: str, kind: str = "Unified") -> None:
    folder = root / f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
    folder.mkdir(parents=True)
    for name, text in (("level", str(level)), ("size", size), ("shared_cpu_list", shared), ("type", kind)):
        (folder / name).write_text(f"{text}\n")


def test_caches_that_cpus_share_count_once(tmp_path: Path) -> None:
    for cpu in range(4):
        a_cache(tmp_path, cpu, 2, 2, "1024K", str(cpu))
        a_cache(tmp_path, cpu, 3, 3, "32M", "0-1" if cpu < 2 else "2-3")
    assert cache_bytes(tmp_path) == 64 << 20


def test_without_a_last_one_that_is_shared_each_has_its_own(tmp_path: Path) -> None:
    for cpu in range(2):
        a_cache(tmp_path, cpu, 1, 1, "32K", str(cpu), "Instruction")
        a_cache(tmp_path, cpu, 2, 2, "512K", str(cpu))
    assert cache_bytes(tmp_path) == 1 << 20
    assert cache_bytes(tmp_path / "none") == 0


def test_it_is_measured_where_there_is_room_beside_the_caches() -> None:
    assert measured(1, 0, 1 << 30) > 0
    assert measured(1, 0, 1 << 20) == 0, "there is no memory for it"
    assert measured(1, MOST, 1 << 40) == 0, "caches hold too much"


def test_caches_of_which_nobody_can_tell_memory() -> None:
    assert too_large(MOST) and not too_large(MOST // CACHES)
    assert measured(1, MOST // CACHES + 1, 1 << 40) == 0


def test_where_no_thread_can_be_started_it_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container may have few processes; those that were started have ended by then."""
    before, start = threading.active_count(), threading.Thread.start

    def one(thread: threading.Thread) -> None:
        if threading.active_count() > before:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", one)
    assert measured(8, 0, 1 << 30) == 0
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [MemoryError(), OSError(12, "Cannot allocate memory")])
def test_where_there_is_no_memory_after_all_it_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(mmap, "mmap", none)
    assert measured(1, 0, 1 << 30) == 0
