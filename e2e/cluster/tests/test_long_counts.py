"""What long tests counted, as the page that `make e2e-long` writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cluster.layout import REPOSITORY

TESTS = """
import pytest

def test_counts(record_property):
    record_property("kills", 41)
    record_property("edits", 7)

@pytest.mark.parametrize("text", ["a|b"])
def test_fails(text):
    assert False
"""


BEFORE = """# Long tests

| test | result | seconds | counted | on |
|---|---|---|---|---|
| test_it.py::test_counts | failed | 9 | 1 kills | yesterday |
| test_other.py::test_before | passed | 9 | 3 times | yesterday |
"""


def test_every_test_has_a_row_with_its_counts_and_a_failure_is_one_and_others_keep_theirs(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "e2e" / "long" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "page.md").write_text(BEFORE)
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={tmp_path}", "--counts=page.md", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [line.split(" | ")[:-1] for line in (tmp_path / "page.md").read_text().splitlines()[-3:]] == [
        ["| test_it.py::test_counts", "passed", "0", "41 kills, 7 edits"],
        ["| test_it.py::test_fails[a\\|b]", "failed", "0", ""],
        ["| test_other.py::test_before", "passed", "9", "3 times"],
    ]
