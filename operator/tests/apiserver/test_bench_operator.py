"""The benchmark itself, small: every figure is there, and what holds at any size holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_twenty_services_get_their_children_and_a_pass_over_them_writes_nothing() -> None:
    command = [
        sys.executable,
        "-m",
        "bench",
        "--services=20",
        "--nodes=5",
        "--pods=20",
        "--changes=10",
        "--idle-seconds=2",
    ]
    path = {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'e2e'}"}
    done = subprocess.run(command, env={**os.environ, **path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "| resync: writes | 0 | 0 |" in done.stdout
    assert "| cold: all children exist |" in done.stdout
    assert "| change to changed Deployment, p99 |" in done.stdout
