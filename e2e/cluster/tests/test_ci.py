"""`.ci/run` begins with nothing of the project's own, says what was warm, and leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.layout import REPOSITORY

MAKE = """#!/bin/sh
# Does what a stage would: leaves something in the cache and in the environment.
test -e "$LLMSERVICE_CACHE_DIR" && was=there || was=new
mkdir -p "$LLMSERVICE_CACHE_DIR" "${MAKEFLAGS#VENV=}"
echo "$MAKEFLAGS $1 $LLMSERVICE_CACHE_DIR $was" >> "$CALLS"
env | grep ^LLMSERVICE_ > "$CALLS.environment"
test ! -p "$CALLS.gate" || (
    trap '' HUP INT TERM # a grandchild that takes its time, and writes once more
    echo "$LLMSERVICE_CACHE_DIR" > "$CALLS.gate"
    sleep 1
    mkdir -p "$LLMSERVICE_CACHE_DIR/again"
)
test "$1" != "$FAILING"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A make that does little, in front of the real one; the file with a line for each call."""
    (tmp_path / "make").write_text(MAKE)
    (tmp_path / "make").chmod(0o755)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))  # with little in it to be measured
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("FAILING", "")
    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path / "somebody's"))
    return tmp_path / "calls"


def ci() -> subprocess.CompletedProcess[str]:
    return subprocess.run([REPOSITORY / ".ci" / "run"], capture_output=True, text=True, timeout=120)


def test_every_run_has_an_empty_cache_and_an_environment_of_its_own(calls: Path, tmp_path: Path) -> None:
    runs = [ci(), ci()]
    assert [run.returncode for run in runs] == [0, 0]
    lines = [line.split() for line in calls.read_text().splitlines()]
    assert [(words[1], words[3]) for words in lines] == [("test", "new"), ("e2e", "there")] * 2
    folders = [Path(words[2]) for words in lines]
    assert folders[0] == folders[1] != folders[2]
    assert all(words[0] == f"VENV={Path(words[2]).with_name('venv')}" for words in lines)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "somebody's").exists()


def test_it_says_what_was_warm_and_how_long_each_stage_took(calls: Path) -> None:
    said = ci().stdout
    for name in ("processors", "Go", "ccache", "pip", "Debian packages"):
        assert re.search(rf"^{name} +\S", said, re.M), said
    assert said.index("=== what was warm") < said.index("=== make test")
    stages = re.findall(r"^\d+ s, exit code (\d): make (\w+)$", said, re.M)
    assert stages == [("0", "test"), ("0", "e2e")]


def test_a_stage_that_fails_ends_it_with_its_code_and_nothing_is_left(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILING", "test")
    run = ci()
    assert run.returncode == 1
    assert re.search(r"^\d+ s, exit code 1: make test$", run.stdout, re.M)
    assert len(calls.read_text().splitlines()) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_nothing_of_the_callers_own_reaches_the_stages(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLMSERVICE_ENGINES_DIR", "LLMSERVICE_STATE_DIR", "LLMSERVICE_SECRETS_DIR"):
        monkeypatch.setenv(name, "/somebody's")
    assert ci().returncode == 0
    seen = calls.with_suffix(".environment").read_text().splitlines()
    assert [line.partition("=")[0] for line in seen] == ["LLMSERVICE_CACHE_DIR"]


TESTS = """
import pathlib, pytest

@pytest.mark.parametrize("number", reversed(range({failing})))
def test_that_fails_the_first_time(number: int) -> None:
    mark = pathlib.Path(__file__).with_name(f"ran {{number}}")
    before = mark.exists()
    mark.touch()
    assert before and {alone}
    mark.with_name(f"again {{number}}").touch()
    assert number == {failing} - 1 or mark.with_name(f"again {{number + 1}}").exists(), "as they stand in the file"

def test_that_passes() -> None:
    with pathlib.Path(__file__).with_name("passed").open("a") as file:
        file.write("once\\n")
"""


@pytest.mark.parametrize(
    ("failing", "alone", "code", "runs"),
    [(0, True, 0, 1), (1, True, 0, 2), (3, True, 0, 2), (1, False, 1, 2), (4, True, 1, 1)],
)
def test_few_that_failed_beside_others_run_once_more_alone(
    tmp_path: Path, failing: int, alone: bool, code: int, runs: int
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS.format(failing=failing, alone=alone))
    pytest_of_ours = Path(sys.executable).with_name("pytest")
    done = subprocess.run(
        [REPOSITORY / ".ci" / "once-more", pytest_of_ours, "--rootdir", tmp_path, "-p", "no:xdist", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout.count("test session starts") == runs
    assert ("passed alone" in done.stdout) == (runs == 2 and code == 0)
    assert (tmp_path / "passed").read_text().count("once") == 1  # who passed does not run again
    first = done.stdout.partition("= FAILURES =")[0]  # each is named when it fails, and not only at the end
    assert len(re.findall(r"^\d\d:\d\d:\d\d FAILED \S+\[\d\]: assert", first, re.M)) == failing


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_stage_and_then_nothing_is_left(calls: Path, tmp_path: Path, number: signal.Signals) -> None:
    gate = calls.with_suffix(".gate")
    os.mkfifo(gate)
    # A shell can't trap what was ignored when it began, as SIGHUP is below nohup.
    heed = ["env", "--default-signal=HUP,INT,TERM", str(REPOSITORY / ".ci" / "run")]
    run = subprocess.Popen(heed, stdout=subprocess.PIPE, text=True, start_new_session=True)
    gate.read_text()  # the stage runs
    run.send_signal(number)
    said = run.communicate(timeout=60)[0]
    assert run.returncode == 128 + number, said
    assert list((tmp_path / "tmp").iterdir()) == []
    assert len(calls.read_text().splitlines()) == 1
