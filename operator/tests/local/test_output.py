"""Nothing that is printed decides: readers that leave or stand still, full disks, closed terminals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
from pathlib import Path
from typing import IO

import pytest
from machine_world import CLI, Here, Stream, manifest, until  # type: ignore[import-not-found]

from llmservice_cli.output import Output


def start(here: Here, out: int | IO[bytes], *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*CLI, *words], env=here.env, cwd=here.folder, stdout=out, stderr=out)


def serves_drains_and_ends(here: Here, up: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """A replica that is lost comes back, and a stream is finished, whatever became of the output."""
    entry = here.ready("demo")
    os.kill(entry["replicas"][0]["pid"], signal.SIGKILL)
    until(lambda: here.ready("demo")["replicas"][0]["restarts"] == 1)
    assert len(here.pids()) == 2  # a supervisor and its engine: nothing runs on unfollowed
    stream = Stream(here.snapshot()["url"], "demo")
    up.send_signal(number)
    assert up.wait(30) == 0
    assert stream.whole().count("content") == 15 and "[DONE]" in stream.text
    assert here.pids() == []


def test_a_reader_that_leaves_after_the_first_line(here: Here) -> None:
    file = here.write(manifest("demo", WORDS=15, DELAY=0.1))
    reader, writer = os.pipe()
    up = start(here, writer, "up", "-f", file, "--port", "0")
    os.close(writer)
    assert os.read(reader, 1)
    os.close(reader)
    serves_drains_and_ends(here, up)


def test_a_reader_that_stands_still(here: Here) -> None:
    file = here.write(manifest("demo", WORDS=15, DELAY=0.1))
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, bytes(4096))
    up = start(here, writer, "up", "-f", file, "--port", "0")
    os.close(writer)
    serves_drains_and_ends(here, up)
    os.close(reader)


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_a_full_disk_behind_the_output(here: Here, detach: tuple[str, ...]) -> None:
    file = here.write(manifest("demo", WORDS=15, DELAY=0.1))
    with Path("/dev/full").open("wb") as full:
        up = start(here, full, "up", "-f", file, "--port", "0", *detach)
        if detach:
            assert up.wait(30) == 0
            here.ready("demo")
            assert start(here, full, "down").wait(30) == 0
            until(lambda: not here.pids())
        else:
            serves_drains_and_ends(here, up)


def test_no_output_at_all(here: Here) -> None:
    file = here.write(manifest("demo", WORDS=15, DELAY=0.1))
    command = f'exec "$@" up -f {file} --port 0 >&- 2>&- <&-'
    up = subprocess.Popen(["sh", "-c", command, "sh", *CLI], env=here.env, cwd=here.folder)
    serves_drains_and_ends(here, up)


def test_a_terminal_that_is_closed(here: Here) -> None:
    """The kernel says so, and the shell once more; streams finish all the same."""
    file = here.write(manifest("demo", WORDS=15, DELAY=0.1))
    ours, theirs = pty.openpty()
    up = subprocess.Popen(
        [*CLI, "up", "-f", file, "--port", "0"], env=here.env, cwd=here.folder, stdin=theirs, stdout=theirs,
        stderr=theirs, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    here.ready("demo")
    stream = Stream(here.snapshot()["url"], "demo")
    os.close(ours)
    up.send_signal(signal.SIGHUP)
    assert up.wait(30) == 0
    assert stream.whole().count("content") == 15 and "[DONE]" in stream.text
    assert here.pids() == []


def test_a_log_on_a_full_disk(here: Here) -> None:
    """The replica's own log can't be written nor rotated."""
    file = here.write(manifest("demo", WORDS=15, DELAY=0.1))
    log = here.state / "logs" / "default" / "demo" / "0.log"
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")
    up = start(here, subprocess.DEVNULL, "up", "-f", file, "--port", "0")
    serves_drains_and_ends(here, up)


@pytest.mark.parametrize(
    "words",
    [
        ["ps"],
        ["ps", "-o", "json"],
        ["ps", "--snippets", "demo"],
        ["crds"],
        ["--version"],
        ["--help"],
        ["plan", "-f", "x.yaml"],
        ["plan", "-f", "x.yaml", "-o", "json"],
        ["plan", "-f", "x.yaml", "-o", "yaml"],
        ["plan", "-f", "many.yaml", "-o", "yaml"],
        ["engines", "file://tiny.gguf"],
        ["models"],
        ["logs", "demo"],
        ["chat", "demo", "--prompt", "x"],
        ["explain", "follows"],
    ],
    ids=" ".join,
)
def test_what_was_to_be_shown_and_could_not_is_one_sentence(running: Here, words: list[str]) -> None:
    running.write(manifest("demo"))
    running.write(*(manifest(f"demo-{number}") for number in range(9)), name="many.yaml")  # more than a buffer holds
    if words[0] == "explain":
        follows = json.loads(manifest("follows"))
        follows["spec"]["scaling"] = {"maxReplicas": 1}
        running.up(json.dumps(follows))
        until(lambda: "follows" in running.run("explain", "follows", code=None))
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*CLI, *words], env=running.env, cwd=running.folder, stdout=full, stderr=subprocess.PIPE)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said == "error: standard output can't be written: No space left on device.\n"


def test_what_is_written_is_fit_for_the_terminal_and_its_encoding(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as stream:
        output = Output(stream)
        assert output.write("\x1b[2J\ud800 ä\n") == 8
        output.finish()
    assert (tmp_path / "log").read_text() == "\\u001b[2J\\ud800 \\xe4\n"
