"""Where `llmservice up` is run decides nothing: modules come from the installation."""

from __future__ import annotations

import subprocess
from pathlib import Path

from llmservice_cli.local.process import SUPERVISOR


def test_a_supervisor_takes_no_modules_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    run = subprocess.run([*SUPERVISOR, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0 and "--settings" in run.stdout
