"""The access log of an instance: there, bounded, and no reason for anything to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmservice_cli.local import access, process
from llmservice_cli.local.access import AccessLog


def test_lines_are_appended_and_the_file_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "LOOK_BYTES", 1000)
    monkeypatch.setattr(process, "LOG_BYTES", 2000)
    log = AccessLog(tmp_path)
    for number in range(1000):
        log.write(f"line {number}\n".encode())
        log.flush()
    assert log.path.stat().st_size < 4000
    kept = log.path.with_name("access.log.1").read_bytes() + log.path.read_bytes()
    assert kept.endswith(b"line 999\n") and len(kept) < 8000
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_where_it_can_not_be_written_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    log = AccessLog(tmp_path)
    log.write(b"line\n")
    log.flush()
