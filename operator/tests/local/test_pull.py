"""`pull` and `rm` against a hub on this machine: resumed, told when the disk is full, one version of several."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine_world import CLI, Here, until  # type: ignore[import-not-found]
from ollama_world import DEMO  # type: ignore[import-not-found]
from small_hub import SmallHub  # type: ignore[import-not-found]

MODEL = DEMO.read_bytes()
LARGE = MODEL + bytes(24 << 20)


@pytest.fixture
def hub(here: Here) -> Iterator[SmallHub]:
    with SmallHub({"demo-Q4_K_M.gguf": MODEL, "demo-Q8_0.gguf": LARGE}).open() as made:
        here.env |= {"HF_ENDPOINT": made.url, "LLMSERVICE_CACHE_DIR": str(here.folder / "cache"), "NO_PROXY": "*"}
        here.env["OLLAMA_MODELS"] = str(here.folder / "none")
        yield made


def kept(here: Here) -> list[str]:
    return sorted(path.name for path in (here.folder / "cache").glob("models/hf/*/*/*.gguf"))


def test_what_is_downloaded_and_how_large_is_said_and_then_it_is_here(here: Here, hub: SmallHub) -> None:
    said = here.run("pull", "acme/demo")
    assert f"acme/demo: downloads {len(MODEL) >> 20} MiB of hf://acme/demo to {here.folder}/cache" in said
    assert kept(here) == ["demo-Q4_K_M.gguf"]
    assert "downloads" not in here.run("pull", "hf.co/acme/demo:q4_k_m"), "it is here"
    assert "hf://acme/demo" in here.run("models")


def test_a_quantization_that_is_not_there(here: Here, hub: SmallHub) -> None:
    for command in ("pull", "run"):
        said = here.run(command, "acme/demo:Q5_K_M", code=1)
        assert "has no Q5_K_M. It has Q4_K_M (" in said and "acme/demo:Q4_K_M" in said
    assert kept(here) == [] and not here.pids()


def test_an_interrupted_download_goes_on_where_it_was(here: Here, hub: SmallHub) -> None:
    """Also of `run`: nothing is left behind that would serve half of it."""
    for command, number in (("pull", signal.SIGINT), ("run", signal.SIGINT), ("run", signal.SIGHUP)):
        hub.go.clear()
        hub.held.clear()
        words = [command, "acme/demo:Q8_0", *(["--port", "0"] if command == "run" else [])]
        process = subprocess.Popen(
            [*CLI, *words], env=here.env, cwd=here.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert hub.held.wait(30)
        until(lambda: any(path.stat().st_size > 1 << 20 for path in here.folder.glob("cache/models/hf/*/.*/*.part")))
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
        assert process.returncode in (130, -number) and "Traceback" not in said, said
        hub.go.set()
        assert kept(here) == []
        assert "nothing runs here" in here.run("down")
    hub.asked.clear()
    here.run("pull", "acme/demo:Q8_0")
    assert kept(here) == ["demo-Q8_0.gguf"] and min(hub.asked) > 1 << 20


def test_who_waits_for_the_download_of_another_goes_on_with_it(here: Here, hub: SmallHub) -> None:
    """Two `run`s of one model; the first is interrupted."""
    hub.go.clear()
    words = [*CLI, "run", "acme/demo:Q8_0", "Hi", "--port", "0"]
    quiet = {"stdin": subprocess.DEVNULL, "env": here.env, "cwd": here.folder, "text": True}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **quiet) as first:
        assert hub.held.wait(30)
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **quiet) as second:
            assert second.stderr is not None
            seen = []
            for line in second.stderr:
                seen.append(line)
                if "is downloading it" in line:
                    break
            else:
                pytest.fail("".join(seen))
            first.send_signal(signal.SIGINT)
            assert first.wait(30) == 130
            hub.go.set()
            said, errors = second.communicate(timeout=60)
            assert (second.returncode, said) == (0, "word0 word1 word2 \n"), errors
        first.communicate()


@pytest.fixture
def small_disk(here: Here) -> Iterator[Callable[[], Path]]:
    """A disk of 1 MiB for the cache; only where mounting is allowed."""
    folder: Path = here.folder / "disk"

    def mount() -> Path:
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip(f"no small file systems can be mounted here: {done.stderr.decode()}")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_too_small_is_told_before_anything_comes(
    here: Here, hub: SmallHub, small_disk: Callable[[], Path]
) -> None:
    here.env["LLMSERVICE_CACHE_DIR"] = str(small_disk() / "cache")
    for words in (["pull", "acme/demo"], ["run", "acme/demo", "Hi", "--port", "0"]):
        said = here.run(*words, code=1)
        assert "downloads" in said and "MiB free" in said, said
        assert "Free space" in said and "models prune" in said
        assert hub.asked == []
    until(lambda: not here.pids())


def test_one_version_of_several_is_removed_and_what_is_served_stays(here: Here, hub: SmallHub) -> None:
    here.run("pull", "acme/demo:Q4_K_M", "acme/demo:Q8_0")
    assert "removed demo-Q8_0.gguf of hf://acme/demo" in here.run("rm", "acme/demo:Q8_0")
    assert kept(here) == ["demo-Q4_K_M.gguf"]
    assert "has no Q8_0. It has Q4_K_M" in here.run("rm", "acme/demo:Q8_0", code=1)
    assert here.run("run", "acme/demo", "Hi", "--port", "0").startswith("word0 word1 word2")
    here.run("pull", "acme/demo:Q8_0")
    for needed in ("acme/demo", "acme/demo:Q4_K_M"):
        assert "is the model of default/demo-q4-k-m" in here.run("rm", needed, code=1)
    here.run("stop", "demo-q4-k-m")
    until(lambda: not here.service("demo-q4-k-m")["replicas"])
    # Nobody serves that one, and the replica's process lets go of all soon.
    until(lambda: "removed demo-Q8_0.gguf of" in here.run("rm", "acme/demo:Q8_0", code=None))
    here.run("down")
    here.run("rm", "acme/demo")
    assert kept(here) == []
