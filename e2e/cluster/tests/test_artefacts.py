"""What is made once for all: many ask at the same time, makers are killed, and nobody ever sees a half."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError, get_ident

import pytest

from cluster import artefact, buildah, console, images, packages, programs
from cluster.artefact import alone, log_of, machine, obtain
from cluster.console import ClusterError, run, run_logged, stage
from cluster.layout import HERE, REPOSITORY
from cluster.main import main

GO = """#!/bin/sh
# Go as far as the cluster asks it: a version, and a program that is slow to be written.
case "$1" in
  env) echo go1.26.0; exit ;;
esac
echo built >> "$BUILDS"
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\n' > "$2"
sleep 0.2
echo 'echo whole' >> "$2"
chmod +x "$2"
"""
APT = """#!/bin/sh
# apt-get as far as it is asked to bring a package: on a machine that has not asked for its list of packages yet.
case "$*" in
  *update) touch "$BUILDS.listed" ;;
  *download*) test -e "$BUILDS.listed" && touch prometheus_2_all.deb ;;
esac
"""
UNPACK = """#!/bin/sh
mkdir -p "$3/usr/bin" "$3/usr/share/web" && touch "$3/usr/bin/prometheus" "$3/usr/bin/promtool"
"""
READY = "print('ready', flush=True); import sys; sys.stdin.readline()"
BUSY = "import os, time; link = os.symlink; os.symlink = lambda *a, **k: (time.sleep(0.02), link(*a, **k))"
"""A busy machine: others come in between a look and what is done about it."""
KUBE = f"from cluster import programs; {BUSY}; {READY}; print(programs.kube())"
HALF = """
from cluster.artefact import obtain
def make(folder, log):
    (folder / "one").write_text("half")
    print("made half", flush=True)
    import sys; sys.stdin.readline()
obtain("thing", "make a thing", make)
"""


@pytest.fixture(autouse=True)
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a cheap Go, an apt-get without a network, and the file with a line for each build."""
    for name, text in (("go", GO), ("apt-get", APT), ("dpkg-deb", UNPACK)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("BUILDS", str(tmp_path / "builds"))
    monkeypatch.setattr(artefact, "_LOCKS", tmp_path)
    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))
    return tmp_path / "builds"


@contextmanager
def python(code: str) -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as child:  # type: ignore[call-overload]
        try:
            yield child
        finally:
            child.kill()


def all_at_once(code: str, count: int) -> Sequence[tuple[int | None, str, str]]:
    """Exit code, output and errors of processes that begin together."""
    with ExitStack() as stack:
        children = [stack.enter_context(python(code)) for _ in range(count)]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        said = [child.communicate(timeout=60) for child in children]
        return [(child.returncode, *words) for child, words in zip(children, said, strict=True)]


def test_many_processes_that_need_kubernetes_on_a_fresh_machine_all_get_it(builds: Path) -> None:
    ended = all_at_once(KUBE, 12)
    assert [(code, errors) for code, _, errors in ended] == [(0, "")] * 12
    assert builds.read_text() == "built\n"
    assert len({output.splitlines()[-1] for _, output, _ in ended}) == 1
    folder = Path(ended[0][1].splitlines()[-1])
    assert {run(folder / name) for name in programs.KUBE_PROGRAMS} == {"whole\n"}


def test_what_tests_run_on_is_built_by_one_command_and_before_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["programs"]) == 0
    assert "==> build kube from its Go module\n" in capsys.readouterr().out
    assert (programs.kube() / "kube-apiserver").exists() and programs.helm().exists()
    assert capsys.readouterr().out == ""
    order = run("make", "-n", "-C", REPOSITORY, f"VENV={tmp_path}", "test")
    assert order.index("cluster programs") < order.index("/bin/pytest")


def test_programs_of_a_package_come_without_installing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where apt does not know any package yet. Nothing but the programs stays."""
    monkeypatch.setattr(shutil, "which", lambda name: None if name in programs.PROMETHEUS else name)
    folder = programs.prometheus()
    assert sorted(file.name for file in folder.iterdir()) == ["prometheus", "promtool"]
    assert folder.is_relative_to(tmp_path / "cache")


def test_those_on_path_are_taken(tmp_path: Path) -> None:
    for name in programs.PROMETHEUS:
        (tmp_path / name).touch(mode=0o755)
    assert programs.prometheus() == tmp_path


def test_where_no_package_can_come_from_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ClusterError, match="promtool") as error:
        programs.prometheus()
    assert "PATH" in error.value.remedy


def test_one_that_is_there_is_taken_without_waiting_for_anybody() -> None:
    made = obtain("thing", "make a thing", lambda folder, _: (folder / "one").touch())
    with alone("thing"):
        assert obtain("thing", "make a thing", unwanted) == made


def unwanted(folder: Path, log: Path) -> None:
    raise AssertionError("made twice")


def test_what_a_killed_maker_left_is_neither_seen_nor_kept() -> None:
    with python(HALF) as child:
        assert child.stdout is not None
        while child.stdout.readline() != "made half\n":
            continue
        child.send_signal(signal.SIGKILL)
    made = obtain("thing", "make a thing", lambda folder, _: (folder / "other").touch())
    assert [file.name for file in made.iterdir()] == ["other"]


def test_a_maker_that_fails_is_told_with_its_log_and_the_next_tries_again() -> None:
    def fail(folder: Path, log: Path) -> None:
        log.write_text("no such package")
        raise ClusterError("It failed.", f"Whole log: {log}")

    with pytest.raises(ClusterError) as error:
        obtain("thing", "make a thing", fail)
    assert Path(error.value.remedy.removeprefix("Whole log: ")) == log_of("thing")
    assert log_of("thing").read_text() == "no such package"
    assert obtain("thing", "make a thing", lambda folder, _: (folder / "one").touch()).is_dir()


def test_two_that_build_an_image_of_one_name_each_hand_over_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    tags: dict[str, int] = {}
    both = Barrier(2)

    def build(key: str, native: bool) -> str:
        tags[key] = get_ident()
        with suppress(BrokenBarrierError):
            both.wait(1)  # the other one comes in between, if it can
        return ""

    monkeypatch.setattr(images, "build", build)
    monkeypatch.setattr(packages, "install", lambda _: None)
    monkeypatch.setattr(buildah, "push", lambda *_: str(tags["operator"]))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: (images.load("bare", ["operator"]), [str(get_ident())]), range(2)))
    assert all(pushed == built for pushed, built in found)


def test_what_takes_long_says_now_and_then_where_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(console, "TELL_SECONDS", 0.1)
    with stage("build it"):
        run_logged(tmp_path / "log", "/bin/sh", "-c", "echo package one; sleep 1")
        assert run("/bin/sh", "-c", "sleep 0.5; cat", input="whole") == "whole"
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("    build it: ") and line.endswith(" s, package one") for line in lines) > 2
    assert sum(line.startswith("    build it: ") and line.endswith(" s") for line in lines) > 2


def test_who_waits_for_another_is_told_for_what(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "TELL_SECONDS", 0.1)
    with ThreadPoolExecutor(1) as pool, alone("thing"):
        waiting = pool.submit(obtain, "thing", "make a thing", lambda folder, _: (folder / "one").touch())
        said = ""
        while "another process is at thing" not in said:
            said += capsys.readouterr().out
            assert not waiting.done()


def test_packages_are_installed_by_one_at_a_time_whichever_cache_each_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Packages and the cluster are the machine's: CI's own cache must not let it in beside `make cluster`."""
    lacking = ["gcc"]
    monkeypatch.setattr(artefact, "_LOCKS", tmp_path)
    monkeypatch.setattr(packages, "missing", lambda: list(lacking))
    monkeypatch.setattr(packages, "_install", lambda wanted: lacking.clear())
    with ThreadPoolExecutor(1) as pool, alone("packages", machine()):
        monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path / "of CI"))
        other = pool.submit(packages.install)
        with pytest.raises(TimeoutError):
            other.result(timeout=0.5)
        assert lacking == ["gcc"]
    assert other.exception() is None
    assert lacking == []
