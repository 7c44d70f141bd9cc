"""The environment of a checkout: whole or made anew, by one make at a time. Python and pip stand in for themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.layout import REPOSITORY

PYTHON = f"""#!/bin/sh
# `python -m venv [--clear] FOLDER`, which fails half way while there is `broken`; anything else is the real one's.
case "$*" in "-m venv"*) ;; *) exec {sys.executable} "$@" ;; esac
echo "$*" >> calls
for folder; do :; done
case "$*" in *--clear*) rm -rf "$folder" ;; esac
mkdir -p "$folder/bin"
touch "$folder/pyvenv.cfg"
cp python "$folder/bin/python"
test ! -e broken || exit 1
cp pip "$folder/bin/pip"
"""
PIP = """#!/bin/sh
test ! -e slow || read line < slow
echo pip >> calls
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    for name, text in (("python", PYTHON), ("pip", PIP)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def make(checkout: Path) -> subprocess.Popen[str]:
    command = ["make", "PYTHON=./python", ".venv/.cli"]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    return subprocess.Popen(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_a_creation_that_failed_is_begun_anew_when_its_cause_is_gone(checkout: Path) -> None:
    (checkout / "broken").touch()
    first = make(checkout)
    assert "python3-venv" in first.communicate(timeout=60)[0] and first.returncode == 2
    (checkout / "broken").unlink()
    second = make(checkout)
    said = second.communicate(timeout=60)[0]
    assert second.returncode == 0, said
    assert (checkout / "calls").read_text().split("\n")[:3] == ["-m venv .venv", "-m venv --clear .venv", "pip"]


def test_what_was_no_environment_is_not_cleared(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine").touch()
    made = make(checkout)
    assert made.communicate(timeout=60) and made.returncode == 0
    assert (checkout / ".venv" / "mine").exists()


def test_two_makes_wait_for_one_another_and_one_does_the_work(checkout: Path) -> None:
    os.mkfifo(checkout / "slow")
    first = make(checkout)
    assert first.stdout is not None
    until = iter(first.stdout.readline, "")
    assert any("command line and its libraries" in line for line in until)
    second = make(checkout)
    assert second.stdout is not None and "waiting for it" in second.stdout.readline()
    with (checkout / "slow").open("w") as gate:  # the first pip reads; the others find no pipe
        (checkout / "slow").unlink()
        gate.write("go\n")
    said = [first.communicate(timeout=60)[0], second.communicate(timeout=60)[0]]
    assert [first.returncode, second.returncode] == [0, 0], said
    assert (checkout / "calls").read_text().split() == ["-m", "venv", ".venv", "pip", "pip", "pip"]
