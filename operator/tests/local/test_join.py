"""What further `up` and `down` commands do to a running instance; each test has services of its own."""

from __future__ import annotations

import os
import signal
import stat

from machine_world import Here, Stream, manifest, until  # type: ignore[import-not-found]


def test_a_second_up_joins_and_the_same_manifest_changes_nothing(running: Here) -> None:
    before = [facts["pid"] for facts in running.ready("demo", 2)["replicas"]]
    file = running.write(manifest("demo", replicas=2), manifest("other"), name="second.yaml")
    said = running.run("up", "-f", file, "--port", "1234")
    assert "joined" in said and running.snapshot()["url"] in said and "default/demo: unchanged" in said
    assert "--port" in said
    assert [facts["pid"] for facts in running.ready("demo", 2)["replicas"]] == before
    running.ready("other")


def test_a_changed_manifest_replaces_without_dropping_a_stream(running: Here) -> None:
    running.up(manifest("swap", WORDS=25, DELAY=0.1, SAY="old"))
    url = running.snapshot()["url"]
    stream = Stream(url, "swap")
    assert "replacing" in running.up(manifest("swap", SAY="new"))
    assert "new0" in Stream(url, "swap").whole()
    assert stream.whole().count("old") == 25 and "[DONE]" in stream.text


def test_a_changed_manifest_that_fails_leaves_the_old_one_serving(running: Here) -> None:
    running.up(manifest("stay", SAY="old"))
    running.up(manifest("stay", FAIL="BadArgument"))
    assert "old0" in Stream(running.snapshot()["url"], "stay").whole()
    (ready,) = (found for found in running.ready("stay")["object"]["status"]["conditions"] if found["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "ServingEarlierSpec")
    assert "(BadArgument): it was told to" in ready["message"]


def test_ps_tells_of_a_changed_manifest_that_failed_also_when_it_is_given_again(running: Here) -> None:
    running.up(manifest("edited", SAY="old"))
    for changed in (manifest("edited", FAIL="ModelDamaged"), manifest("edited", uri="file://none.gguf")):
        for _ in range(2):
            running.up(changed)
            for output in ([], ["-o", "wide"]):
                row = next(line for line in running.run("ps", *output).splitlines() if "edited" in line)
                assert "1/1" in row and "Ready, but ServingEarlierSpec" in row
    running.up(manifest("edited", SAY="old"))
    row = next(line for line in running.run("ps").splitlines() if "edited" in line)
    assert row.endswith("Ready")
    running.run("down", "edited")


def test_replicas_follow_the_manifest(running: Here) -> None:
    running.up(manifest("many"))
    (first,) = running.ready("many")["replicas"]
    assert "scaled" in running.up(manifest("many", replicas=2))
    assert first["pid"] in [facts["pid"] for facts in running.ready("many", 2)["replicas"]]
    running.up(manifest("many", replicas=1))
    assert [facts["pid"] for facts in running.ready("many")["replicas"]] == [first["pid"]]


def test_a_supervisor_that_someone_ends_comes_back(running: Here) -> None:
    running.up(manifest("hurt"))
    for restarts, number in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
        (facts,) = running.ready("hurt")["replicas"]
        os.kill(facts["pid"], number)
        until(lambda before=facts["pid"]: running.ready("hurt")["replicas"][0]["pid"] != before)
        (facts,) = running.ready("hurt")["replicas"]
        assert facts["restarts"] == restarts
        if number == signal.SIGKILL:
            assert "supervisor ended by signal SIGKILL" in facts["failure"]["message"]


def test_a_service_that_keeps_failing_is_told_and_tried_again(running: Here) -> None:
    said = running.up(manifest("sick", FAIL="OutOfMemory"), code=1)
    assert "default/sick: failed (OutOfMemory): it was told to" in said and "fix: tell it otherwise" in said
    entry = next(s for s in running.snapshot()["services"] if s["object"]["metadata"]["name"] == "sick")
    assert not entry["replicas"][0]["gave_up"]


def test_down_of_one_service_keeps_the_others(running: Here) -> None:
    running.up(manifest("gone"))
    running.run("down", "gone")
    names = [entry["object"]["metadata"]["name"] for entry in running.snapshot()["services"]]
    assert "demo" in names and "gone" not in names
    assert "there is no service `gone`" in running.run("down", "gone", code=1)


def test_the_state_folder_is_private(running: Here) -> None:
    assert stat.S_IMODE(running.state.stat().st_mode) == 0o700
    assert stat.S_IMODE((running.state / "control.sock").stat().st_mode) & 0o077 == 0


def test_a_service_is_scaled_to_zero_and_back(running: Here) -> None:
    running.up(manifest("nap", SAY="awake"))
    assert "default/nap: scaled" in running.run("scale", "nap", "--replicas", "0")
    until(lambda: not running.service("nap")["replicas"])
    ready = next(c for c in running.service("nap")["object"]["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Stopped")
    assert "llmservice scale default/nap --replicas 1" in ready["message"]
    assert "default/nap: scaled" in running.run("scale", "default/nap", "--replicas", "2")
    running.ready("nap", 2)
    assert "awake0" in Stream(running.snapshot()["url"], "nap").whole()
    assert "default/nap: unchanged" in running.run("scale", "nap", "--replicas", "2")


def test_zero_replicas_in_a_manifest_start_none_and_stop_those_of_before(running: Here) -> None:
    assert "stopped, as spec.replicas is 0: default/zero" in running.up(manifest("zero", replicas=0))
    assert running.service("zero")["replicas"] == []
    running.up(manifest("zero"))
    running.ready("zero")
    running.up(manifest("zero", replicas=0, SAY="other"))
    until(lambda: not running.service("zero")["replicas"])


def test_scaling_down_leaves_a_stream_alone(running: Here) -> None:
    running.up(manifest("pair", replicas=2, WORDS=40, DELAY=0.1))
    running.ready("pair", 2)
    streams = [Stream(running.snapshot()["url"], "pair") for _ in range(2)]
    running.run("scale", "pair", "--replicas", "0")
    assert all("[DONE]" in stream.whole() for stream in streams)


def test_a_number_of_replicas_that_cannot_be_is_refused(running: Here) -> None:
    assert "--replicas is -1" in running.run("scale", "demo", "--replicas=-1", code=1)
    assert "there is no service `nobody`" in running.run("scale", "nobody", "--replicas", "1", code=1)
