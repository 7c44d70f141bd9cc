"""What this machine's CPUs read of memory, and what their caches hold."""

from __future__ import annotations

from pathlib import Path

from llmservice_runtime.machine.memory_speed import MOST, cache_bytes, measured


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
