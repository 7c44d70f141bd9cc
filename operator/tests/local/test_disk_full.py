"""A state folder that can't be written: the reason is named, its class is DiskFull, and nothing is left behind."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine_world import CLI, Here, manifest, until  # type: ignore[import-not-found]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """small_disk(options of a tmpfs) -> its folder; only where mounting is allowed."""
    made: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no small file systems can be mounted here: {done.stderr}")
        made.append(folder)
        return folder

    yield mount
    for folder in made:
        subprocess.run(["umount", "-l", folder], check=True)


def no_room_in_any_file() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_files_that_can_not_grow(here: Here, detach: tuple[str, ...]) -> None:
    """As with a full disk, for any user: `ulimit -f 0`."""
    words = ("up", "-f", here.write(manifest("demo")), "--port", "0", *detach)
    done = subprocess.run(
        [*CLI, *words], env=here.env, cwd=here.folder, capture_output=True, text=True, timeout=60,
        preexec_fn=no_room_in_any_file,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "failed (DiskFull)" in said and "Free space there" in said
    assert "Traceback" not in said and "another version" not in said
    until(lambda: not here.pids())
    assert not list(here.state.glob("run/*"))


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_a_full_disk(small_disk: Callable[[str], Path], here: Here, detach: tuple[str, ...]) -> None:
    disk = small_disk("size=64k")
    here.state = disk / "state"
    here.env["LLMSERVICE_STATE_DIR"] = str(here.state)
    file = here.write(manifest("demo"))
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(1 << 20))
    said = here.run("up", "-f", file, "--port", "0", *detach, code=1)
    assert "failed (DiskFull)" in said and "no space left on device" in said
    until(lambda: not here.pids())
    assert not list(here.state.glob("run/*"))


def test_a_disk_without_inodes(small_disk: Callable[[str], Path], here: Here) -> None:
    disk = small_disk("nr_inodes=3")
    here.env["LLMSERVICE_STATE_DIR"] = str(disk / "state")
    for name in "abc":
        try:
            (disk / name).touch()
        except OSError:
            break
    said = here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach", code=1)
    assert "inodes" in said and "LLMSERVICE_STATE_DIR" in said
    assert not (disk / "state").exists()


def test_a_disk_that_fills_up_takes_nothing_that_runs(small_disk: Callable[[str], Path], here: Here) -> None:
    disk = small_disk("size=1m")
    here.state = disk / "state"
    here.env["LLMSERVICE_STATE_DIR"] = str(here.state)
    here.control = type(here.control)(here.state)
    here.run("up", "-f", here.write(manifest("demo")), "--port", "0", "--detach")
    with pytest.raises(OSError, match="No space"):
        (disk / "filler").write_bytes(bytes(2 << 20))
    said = here.up(manifest("demo"), manifest("more"))  # one of the two serves
    assert "default/more: failed (DiskFull)" in said and "another version" not in said
    here.ready("demo")
    (disk / "filler").unlink()
    here.ready("more")


@pytest.mark.parametrize("command", [["up", "-f", "x.yaml"], ["up", "-f", "x.yaml", "--detach"], ["ps"], ["down"]])
def test_a_state_folder_that_can_not_be(here: Here, command: list[str]) -> None:
    here.write(manifest("demo"))
    here.env["LLMSERVICE_STATE_DIR"] = str(here.folder / "tiny.gguf" / "state")
    done = here.run(*command, code=None)
    if command[0] == "up":
        assert "not a directory" in done and "LLMSERVICE_STATE_DIR" in done
    else:
        assert "no service is running" in done or "nothing runs here" in done
