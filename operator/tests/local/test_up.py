"""`llmservice up` and its end: joining, replacing, draining, being killed. Scripted engines under real supervisors."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import pytest
from machine_world import Here, Stream, manifest, until  # type: ignore[import-not-found]


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> str:
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    return said


def test_foreground_serves_until_interrupted_and_leaves_nothing(here: Here) -> None:
    with here.foreground("-f", here.write(manifest("demo")), "--port", "0") as up:
        here.ready("demo")
        said = stop(up)
        assert up.returncode == 0
    assert "default/demo: ready, 1/1" in said and "stopped" in said
    assert here.pids() == []
    assert "no service is running" in here.run("ps")


def test_pages_and_names_are_let_in_by_options(here: Here) -> None:
    file = here.write(manifest("demo"))
    options = ("--allow-origin", "http://localhost:3000", "--allow-host", "llm.example.com", "--detach")
    here.run("up", "-f", file, "--port", "0", *options)
    url = f"{here.snapshot()['url']}/models"
    asked = urllib.request.Request(url, headers={"Host": "llm.example.com", "Origin": "http://localhost:3000"})
    with urllib.request.urlopen(asked) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    for headers, option in (({"Host": "evil.example"}, "--allow-host"), ({"Origin": "null"}, "--allow-origin")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, headers=headers))
        with refused.value as answer:
            assert answer.code == 403 and option in answer.read().decode()
    said = here.run("up", "-f", file, "--allow-origin", "*")
    assert "--allow-origin count only when an instance starts" in said
    for wrong in (("--allow-origin", "localhost"), ("--allow-origin", "http://a/b"), ("--allow-host", "http://a")):
        assert wrong[1] in here.run("up", "-f", file, *wrong, code=2)


def test_interrupt_lets_streams_finish(here: Here) -> None:
    with here.foreground("-f", here.write(manifest("demo", WORDS=15, DELAY=0.1)), "--port", "0") as up:
        here.ready("demo")
        stream = Stream(here.snapshot()["url"], "demo")
        said = stop(up, signal.SIGTERM)
        assert stream.whole().count("content") == 15 and "[DONE]" in stream.text
    assert "draining: 1 requests still run" in said


def test_the_second_interrupt_ends_streams_with_an_error(here: Here) -> None:
    with here.foreground("-f", here.write(manifest("demo", WORDS=1000, DELAY=0.1)), "--port", "0") as up:
        here.ready("demo")
        stream = Stream(here.snapshot()["url"], "demo")
        up.send_signal(signal.SIGINT)
        assert up.stdout is not None
        while "draining" not in up.stdout.readline():
            pass
        said = stop(up)
    assert "stopping at once" in said
    assert '"error"' in stream.whole() and "[DONE]" not in stream.text
    assert here.pids() == []


def test_no_orphan_and_no_stale_state_after_sigkill(here: Here) -> None:
    file = here.write(manifest("demo", replicas=2))
    here.run("up", "-f", file, "--port", "0", "--detach")
    assert len(here.pids()) >= 5  # the instance, two supervisors, two engines
    os.kill(here.snapshot()["pid"], signal.SIGKILL)
    until(lambda: not here.pids(), 5)
    here.run("up", "-f", file, "--port", "0", "--detach")
    here.ready("demo", 2)


def test_a_port_in_use_is_named_and_nothing_is_left(here: Here) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for mode in ((), ("--detach",)):
            said = here.run("up", "-f", here.write(manifest("demo")), "--port", port, *mode, code=1)
            assert f"127.0.0.1:{port}" in said and "--port" in said
    assert here.pids() == []


def test_nothing_to_serve_is_an_error_and_leaves_nothing(here: Here) -> None:
    file = here.write(manifest("broken", uri="file://none.gguf"), manifest("bad", FAIL="BadArgument"))
    for mode in ((), ("--detach",)):
        said = here.run("up", "-f", file, "--port", "0", *mode, code=1)
        assert "default/broken: failed (ModelNotFound)" in said
        assert "default/bad: failed (BadArgument): it was told to" in said and "fix: tell it otherwise" in said
        until(lambda: not here.pids(), 5)


def test_two_ups_at_once_make_one_instance(here: Here) -> None:
    files = [here.write(manifest(name), name=f"{name}.yaml") for name in ("one", "two")]
    with here.foreground("-f", files[0], "--port", "0"), here.foreground("-f", files[1], "--port", "0"):
        here.ready("one")
        here.ready("two")


def test_the_last_service_takes_the_instance_with_it(here: Here) -> None:
    said = here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--host", "0.0.0.0", "--detach")
    assert "without a key" in said
    here.run("down", "default/demo")
    until(lambda: not here.pids(), 5)


def test_the_shells_limit_of_open_files_does_not_limit_connections(here: Here) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    file = here.write(manifest("demo"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        here.run("up", "-f", file, "--port", "0", "--detach")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    url = here.snapshot()["url"]
    address = ("127.0.0.1", int(url.split(":")[2].split("/")[0]))
    with contextlib.ExitStack() as idle:
        for _ in range(200):
            idle.enter_context(socket.create_connection(address))
        assert "[DONE]" in Stream(url, "demo").whole()
