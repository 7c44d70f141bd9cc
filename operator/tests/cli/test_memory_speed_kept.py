"""How fast this machine reads memory is measured once since it was started, and not while it is busy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmservice_cli import memory_speed
from llmservice_cli.memory_speed import FILE, with_memory_speed
from llmservice_runtime.machine.machine import Machine

MACHINE = Machine(4, 8 << 30, 8 << 30)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Threads of each measurement; the machine is calm, and each time another one."""
    seen: list[int] = []

    def measure(threads: int, _caches: int, _free: int) -> int:
        seen.append(threads)
        return 10**10 + len(seen)

    monkeypatch.setattr(memory_speed, "measured", measure)
    monkeypatch.setattr(memory_speed, "BOOT", tmp_path / "boot_id")
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 5.0, 5.0))
    (tmp_path / "boot_id").write_text("one\n")
    return seen


def test_it_is_measured_once_since_the_machine_was_started(asked: list[int], tmp_path: Path) -> None:
    first = with_memory_speed(MACHINE, tmp_path)
    assert first.bandwidth == with_memory_speed(MACHINE, tmp_path).bandwidth == 10**10 + 1
    assert asked == [4]
    (tmp_path / "boot_id").write_text("two\n")
    assert with_memory_speed(MACHINE, tmp_path).bandwidth == 10**10 + 2
    assert with_memory_speed(Machine(2, 8 << 30, 8 << 30), tmp_path).bandwidth == 10**10 + 3, "with fewer CPUs"


def test_a_busy_machine_is_not_measured(asked: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 0.0, 0.0))
    assert with_memory_speed(MACHINE, tmp_path).bandwidth == 0 and not asked
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.0, 0.0))
    kept = with_memory_speed(MACHINE, tmp_path).bandwidth
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 0.0, 0.0))
    assert with_memory_speed(MACHINE, tmp_path).bandwidth == kept > 0


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"boot": "one", "cpus": 4}', '{"boot": "one", "cpus": 4, "bytes_per_second": "x"}']
)
def test_what_somebody_wrote_there_is_no_harm(asked: list[int], tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert with_memory_speed(MACHINE, tmp_path).bandwidth > 0


def test_where_nothing_can_be_kept_it_is_measured_again(asked: list[int], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nowhere = tmp_path / "file" / "cache"
    assert with_memory_speed(MACHINE, nowhere).bandwidth < with_memory_speed(MACHINE, nowhere).bandwidth
