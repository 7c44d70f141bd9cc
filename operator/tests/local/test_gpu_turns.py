"""GPUs on one machine, as a user has it: every replica sees its own alone, and services that give way share them in
turns. The driver is a program that prints what nvidia-smi prints, the engine a scripted one that says what it sees."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine_world import GPU, Here, Stream, fake_engines, fake_gpus, gpu_id, manifest, until  # type: ignore
from test_sharing import MODEL, NAMES, ask, sharing, takes_turns  # type: ignore[import-not-found]

from llmservice_cli.local.gpus import GpuNeed
from llmservice_cli.local.holds import Need
from llmservice_cli.local.room import Claim, Room
from llmservice_runtime.machine.machine import Device, Gpu

FREE = 24_000
SEEN = {"TELL": "CUDA_VISIBLE_DEVICES"}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """A machine with two GPUs and an engine that is built for them."""
    made = Here(tmp_path, fake_engines(tmp_path / "engines", "CPU", "NVIDIA"))
    made.env.pop("CUDA_VISIBLE_DEVICES", None)
    fake_gpus(made, FREE, FREE)
    yield made
    made.end()


def with_count(text: str, count: int) -> str:
    body = json.loads(text)
    body["spec"]["accelerator"] = {"count": count}
    return json.dumps(body)


def up(here: Here, *manifests: str, code: int = 0) -> str:
    return str(here.run("up", "-f", here.write(*manifests), "--port", "0", "--detach", code=code, seconds=120))


def sees(here: Here, name: str) -> set[str]:
    """The GPUs that the engine of a service says it sees."""
    told = ask(here, name).whole(120)
    assert "[DONE]" in told, told
    return {gpu_id(number) for number in (0, 1) if gpu_id(number) in told}


def another_instance(here: Here, number: int) -> Claim:
    room = Room(
        here.runtime / f"llmservice-{os.getuid()}",
        gpus=lambda: (Gpu(GPU, Device.NVIDIA, 1 << 34, 89, id=gpu_id(number), index=number),),
    )
    claim = room.claim("other/big", Need("/big.gguf", 1 << 20, GpuNeed(GPU, 1)))
    assert isinstance(claim, Claim) and claim.gpus
    return claim


def row(here: Here, name: str) -> str:
    rows: list[str] = here.run("ps", "-o", "wide").splitlines()
    return next(line for line in rows if line.startswith(f"default/{name} "))


def test_two_services_see_different_gpus_and_a_third_one_is_told_who_has_them(here: Here) -> None:
    told = up(here, manifest("a", **SEEN), manifest("b", **SEEN))
    assert f"1 × {GPU}" in told
    one, other = sees(here, "a"), sees(here, "b")
    assert len(one) == len(other) == 1 and one | other == {gpu_id(0), gpu_id(1)}
    shown = {re.findall(r" ([01]) +(?:-|\d+\.\d s)", row(here, name))[0] for name in "ab"}  # "-": told later
    assert shown == {"0", "1"}
    refused = here.up(with_count(manifest("c"), 1), code=1)
    assert "accelerator.count is 1, and other services take every GPU." in refused
    assert re.search(r"default/[ab] has GPU [01], default/[ab] has GPU [01]\.", refused), refused
    on_cpu = here.up(manifest("c", **SEEN))
    assert "default/c: It is planned for the CPU: other services have every GPU. default/" in on_cpu


def test_a_replica_without_a_gpu_waits_and_says_who_has_them(here: Here) -> None:
    up(here, manifest("a", replicas=2, **SEEN))
    here.run("scale", "a", "--replicas", "3")
    until(lambda: any(facts["held"] for facts in here.service("a")["replicas"]))
    failure: dict[str, Any] = next(f["failure"] for f in here.service("a")["replicas"] if f["held"])
    has = "default/a has GPU 0, default/a has GPU 1"
    assert failure["message"] == f"A replica of default/a takes 1 × {GPU}, and none of 2 is free: {has}."
    here.run("scale", "a", "--replicas", "1")
    until(lambda: len(here.service("a")["replicas"]) == 1)


def test_three_of_which_one_has_the_gpu_answer_sixty_mixed_requests(here: Here) -> None:
    fake_gpus(here, FREE)
    assert "serving default/a, default/b, default/c" in up(here, *(sharing(name, SAY=name) for name in NAMES))
    assert here.run("ps", "-o", "wide").count("Idle: It found no room beside what runs") == 2
    takes_turns(here, "{}2 ")


def test_one_of_two_gpus_waits_for_both_and_gets_both(here: Here) -> None:
    enough = here.folder / "enough"
    up(
        here,
        sharing("a", SAY="a", ENOUGH=enough),
        sharing("b", SAY="b"),
        with_count(sharing("both", uri=f"file://{MODEL}", **SEEN), 2),
    )
    working, quick = ask(here, "a"), ask(here, "b")
    assert "[DONE]" in quick.whole(60)
    until(lambda: working.began > 0)
    wide = Stream(here.snapshot()["url"], "both", begun=False)
    until(lambda: "It gives way to default/both once what it answers is done" in row(here, "a"))
    assert "gives way to it" in row(here, "both") or "give way to it" in row(here, "both")
    assert not wide.text
    enough.touch()
    assert "a2" in working.whole(60) and "[DONE]" in working.text
    assert f"{gpu_id(0)},{gpu_id(1)}" in wide.whole(60) and "[DONE]" in wide.text
    assert "It has GPU 0, GPU 1." in here.run("explain", "both")
    assert "a2" in ask(here, "a").whole(60)


def test_what_another_instance_has_is_not_given_and_what_a_killed_one_had_is(here: Here) -> None:
    other = another_instance(here, 0)
    with here.foreground("-f", here.write(manifest("a", **SEEN)), "--port", "0") as process:
        here.ready("a")
        assert sees(here, "a") == {gpu_id(1)}
        refused = here.up(with_count(manifest("b"), 2), code=1)
        assert "other/big (of another instance, pid" in refused and "has GPU 0" in refused
        process.send_signal(signal.SIGKILL)
        process.wait()
    until(lambda: not here.pids())
    up(here, manifest("a", **SEEN))
    assert sees(here, "a") == {gpu_id(1)}
    other.release()
    up(here, manifest("b", **SEEN))
    assert sees(here, "b") == {gpu_id(0)}


def test_what_the_user_names_is_kept_to_and_what_is_not_there_is_refused_by_name(here: Here) -> None:
    up(here, manifest("a", CUDA_VISIBLE_DEVICES="1", **SEEN))
    assert sees(here, "a") == {gpu_id(1)}
    told = here.up(manifest("b", CUDA_VISIBLE_DEVICES="7"), code=1)
    assert "engine.env: CUDA_VISIBLE_DEVICES names '7', and services can have" in told
    assert f"GPU 0 ({gpu_id(0)})" in told
    told = here.up(with_count(manifest("b", CUDA_VISIBLE_DEVICES=gpu_id(0)), 2), code=1)
    assert "which names one GPU, and accelerator.count is 2" in told
    told = here.up(with_count(manifest("b", CUDA_VISIBLE_DEVICES="1"), 1), code=1)
    assert "other services take every GPU" in told and "default/a has GPU 1" in told


def test_what_up_may_see_is_all_that_services_get(here: Here) -> None:
    here.env["CUDA_VISIBLE_DEVICES"] = "1"
    told = up(here, manifest("a", **SEEN), manifest("b", CUDA_VISIBLE_DEVICES="0"))
    assert "CUDA_VISIBLE_DEVICES of this command's environment is '1'" in told
    assert '"11 "' in ask(here, "a").whole(60), "it sees what `up` sees"


def test_a_gpu_that_other_programs_fill_is_given_last(here: Here) -> None:
    fake_gpus(here, 50, FREE)
    up(here, manifest("a", **SEEN))
    assert sees(here, "a") == {gpu_id(1)}
    up(here, manifest("b", **SEEN))
    assert sees(here, "b") == {gpu_id(0)}
    told = "50 MiB of 24.0 GiB are free on GPU 0; it is planned to take"
    assert told in here.service("b")["replicas"][0]["crowded"]


def test_a_changed_version_gets_the_gpu_of_the_one_that_it_replaces(here: Here) -> None:
    fake_gpus(here, FREE)
    up(here, manifest("a", SAY="old"))
    assert "old2" in ask(here, "a").whole(60)
    here.up(manifest("a", SAY="new"))
    assert "new2" in ask(here, "a").whole(60)
    assert " 1/1 " in row(here, "a")
