"""`llmservice up` and its end: joining, replacing, draining, being killed. Scripted engines under real supervisors."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess

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
    assert "no service is running" in here.run("ps", code=1)


def test_interrupt_lets_streams_finish(here: Here) -> None:
    with here.foreground("-f", here.write(manifest("demo", WORDS=20, DELAY=0.1)), "--port", "0") as up:
        here.ready("demo")
        stream = Stream(here.snapshot()["url"], "demo")
        said = stop(up, signal.SIGTERM)
        assert stream.whole().count("content") == 20 and "[DONE]" in stream.text
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


def test_the_state_folder_is_private(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach")
    assert stat.S_IMODE(here.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((here.state / "control.sock").stat().st_mode) & 0o077 == 0


def test_a_port_in_use_is_named_and_nothing_is_left(here: Here) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for mode in ((), ("--detach",)):
            said = here.run("up", "-f", here.write(manifest("demo")), "--port", port, *mode, code=1)
            assert f"127.0.0.1:{port}" in said and "--port" in said
    assert here.pids() == []


def test_nothing_to_serve_is_an_error_and_leaves_nothing(here: Here) -> None:
    file = here.write(manifest("broken", uri="file://none.gguf"), manifest("bad", FAIL="OutOfMemory"))
    for mode in ((), ("--detach",)):
        said = here.run("up", "-f", file, "--port", "0", *mode, code=1)
        assert "default/broken: failed (ModelNotFound)" in said
        assert "default/bad: failed (OutOfMemory): it was told to" in said and "fix: tell it otherwise" in said
        until(lambda: not here.pids(), 5)


def test_a_second_up_joins_and_the_same_manifest_changes_nothing(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach")
    before = here.ready("demo")["replicas"]
    said = here.run("up", "-f", here.write(manifest("demo"), manifest("other")), "--port", "1234")
    assert "joined" in said and here.snapshot()["url"] in said and "default/demo: unchanged" in said
    assert "--port" in said
    assert [facts["pid"] for facts in here.ready("demo")["replicas"]] == [facts["pid"] for facts in before]
    here.ready("other")


def test_two_ups_at_once_make_one_instance(here: Here) -> None:
    files = [here.write(manifest(name), name=f"{name}.yaml") for name in ("one", "two")]
    with here.foreground("-f", files[0], "--port", "0"), here.foreground("-f", files[1], "--port", "0"):
        here.ready("one")
        here.ready("two")


def test_a_changed_manifest_replaces_without_dropping_a_stream(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo", WORDS=30, DELAY=0.1, SAY="old")), "--port", "0", "--detach")
    url = here.snapshot()["url"]
    stream = Stream(url, "demo")
    assert "replacing" in here.run("up", "-f", here.write(manifest("demo", SAY="new")))
    assert "new0" in Stream(url, "demo").whole()
    assert stream.whole().count("old") == 30 and "[DONE]" in stream.text


def test_a_changed_manifest_that_fails_leaves_the_old_one_serving(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo", SAY="old")), "--port", "0", "--detach")
    here.run("up", "-f", here.write(manifest("demo", FAIL="BadArgument")))
    assert "old0" in Stream(here.snapshot()["url"], "demo").whole()
    assert "the new one failed: it was told to" in here.run("ps", "-o", "json")


def test_replicas_follow_the_manifest(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach")
    (first,) = here.ready("demo")["replicas"]
    assert "scaled" in here.run("up", "-f", here.write(manifest("demo", replicas=2)))
    assert first["pid"] in [facts["pid"] for facts in here.ready("demo", 2)["replicas"]]
    here.run("up", "-f", here.write(manifest("demo", replicas=1)))
    assert [facts["pid"] for facts in here.ready("demo")["replicas"]] == [first["pid"]]


def test_a_killed_supervisor_comes_back(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach")
    (facts,) = here.ready("demo")["replicas"]
    os.kill(facts["pid"], signal.SIGKILL)
    until(lambda: here.ready("demo")["replicas"][0]["pid"] != facts["pid"])
    assert here.ready("demo")["replicas"][0]["restarts"] == 1


def test_down_of_one_service_keeps_the_others_and_of_the_last_ends(here: Here) -> None:
    here.run("up", "-f", here.write(manifest("one"), manifest("two")), "--port", "0", "--detach")
    here.ready("two")
    here.run("down", "one")
    assert [entry["object"]["metadata"]["name"] for entry in here.snapshot()["services"]] == ["two"]
    assert "there is no service `one`" in here.run("down", "one", code=1)
    here.run("down", "default/two")
    until(lambda: not here.pids(), 5)


def test_listening_beyond_this_machine_is_warned_about(here: Here) -> None:
    said = here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--host", "0.0.0.0", "--detach")
    assert "without a key" in said
