"""Ctrl-C and `down` at any time: no traceback, nothing left, and no error where what was asked for is so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from machine_world import CLI, Here, Stream, manifest, until  # type: ignore[import-not-found]

SCRIPT = Path(__file__).parents[2] / "llmservice"


@pytest.mark.parametrize("detach", [(), ("--detach",)])
@pytest.mark.parametrize("twice", [False, True])
def test_an_interrupt_at_any_time(here: Here, detach: tuple[str, ...], twice: bool) -> None:
    """At moments spread over a whole start, from the first one on at which Python runs anything of ours."""
    file = here.write(manifest("demo"))
    begins = "from llmservice_cli.entry import leave_on_interrupt as leave; leave(); print('begins', flush=True); "
    told_when_it_begins = (*CLI[:2], CLI[2].replace("sys.exit(", begins + "sys.exit("))
    for moment in range(5):
        up = subprocess.Popen(
            [*told_when_it_begins, "up", "-f", file, "--port", "0", *detach], env=here.env, cwd=here.folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert up.stdout is not None and up.stdout.readline() == "begins\n"
        time.sleep(moment * 0.2)  # any time is right
        up.send_signal(signal.SIGINT)
        if twice:
            up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=30)
        # -SIGINT: in the interpreter's own last moments, when everything has been done
        assert up.returncode in (0, 130, -signal.SIGINT) and "Traceback" not in said, said
        here.run("down")
        until(lambda: not here.pids())


def test_an_interrupt_before_anything_of_ours_runs(here: Here) -> None:
    """While the shell starts Python, and Python itself: the console script keeps Ctrl-C back until it has an answer."""
    python = Path(sys.executable).parent
    env = here.env | {"PATH": f"{python}:{os.environ['PATH']}"}
    for moment in range(0, 60, 3):
        begun = subprocess.Popen([SCRIPT, "--version"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        time.sleep(moment / 1000)  # any time is right
        begun.send_signal(signal.SIGINT)
        said, _ = begun.communicate(timeout=30)
        assert begun.returncode in (0, 130, -signal.SIGINT) and b"Traceback" not in said, said


def test_the_console_script_finds_its_python_by_any_way(here: Here) -> None:
    folder = here.folder / "bin"
    folder.mkdir()
    for name, text in (("real", SCRIPT.read_text()), ("python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (here.folder / "linked").symlink_to(folder / "real")
    env = here.env | {"PATH": f"{folder}:{os.environ['PATH']}"}
    for command in (["real"], [folder / "real"], ["./linked"], ["sh", "linked"], ["sh", "bin/real"]):
        said = subprocess.run([*command, "--version"], env=env, cwd=here.folder, capture_output=True, text=True)
        assert said.stdout == f"llmservice {version('llmservice')}\n", (command, said.stderr)


def test_down_of_nothing_is_done(here: Here) -> None:
    assert "nothing runs here" in here.run("down")
    here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach")
    here.run("down")
    assert "nothing runs here" in here.run("down")
    assert "no service is running" in here.run("down", "demo", code=1)


def test_downs_at_once_all_end_well(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo", replicas=2)), "--port", "0", "--detach")
    downs = [
        subprocess.Popen([*CLI, "down"], env=here.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    for down in downs:
        said, _ = down.communicate(timeout=30)
        assert down.returncode == 0 and "Traceback" not in said, said
    until(lambda: not here.pids())


def test_a_second_down_waits_for_streams_as_the_first_does(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo", WORDS=30, DELAY=0.1)), "--port", "0", "--detach")
    stream = Stream(here.snapshot()["url"], "demo")
    downs = [
        subprocess.Popen([*CLI, "down", *names], env=here.env, stdout=subprocess.PIPE, text=True)
        for names in ([], ["demo"], [])
    ]
    for down in downs:
        down.communicate(timeout=60)
    assert stream.whole().count("content") == 30 and "[DONE]" in stream.text


def test_down_ends_an_instance_that_just_starts(here: Here) -> None:
    """It has the lock before it answers."""
    with here.foreground("-f", here.write(manifest("demo")), "--port", "0") as up:
        until(lambda: (here.state / "instance.lock").exists())
        here.run("down")
        said, _ = up.communicate(timeout=30)
        assert up.returncode == 0 and "Traceback" not in said, said
    assert here.pids() == []


def test_an_instance_that_stands_still_is_not_waited_for_for_ever(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmservice_cli.local import client
    from llmservice_runtime.contract.errors import UserError

    with here.foreground("-f", here.write(manifest("demo")), "--port", "0") as up:
        here.ready("demo")
        up.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
        with pytest.raises(UserError, match="does not answer"):
            here.snapshot()
        order = {"name": "nobody", "replicas": 1}
        with pytest.raises(UserError, match="may still do what was asked"):
            client.Control(here.state)._request("POST", "/scale", order, timeout=0.2).__enter__()
        up.send_signal(signal.SIGCONT)
        here.snapshot()


def test_version(here: Here) -> None:
    assert here.run("--version") == f"llmservice {version('llmservice')}\n"
