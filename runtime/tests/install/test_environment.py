"""Installed, not installed, half installed; what is missing on the machine; two installers at once."""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines import registry
from llmservice_runtime.engines.base.recipe import NoEnvironment, Recipe
from llmservice_runtime.engines.llamacpp.install.check import tiny_model
from llmservice_runtime.engines.llamacpp.install.recipe import RECIPE
from llmservice_runtime.engines.vllm.install.recipe import RECIPE as VLLM
from llmservice_runtime.install import make
from llmservice_runtime.install.environment import engine_python, installed_engines
from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.lockfile import split_lock
from llmservice_runtime.install.make import Install, install, prove
from llmservice_runtime.install.progress import ProgressLine
from llmservice_runtime.install.run import run_logged
from llmservice_runtime.install.tools import require_compiler, require_headers, require_libraries
from llmservice_runtime.install.wheel import WheelPlan, cached_wheel, obtain_wheel, plan_wheel

HOLD = """
import sys
from dataclasses import replace
from pathlib import Path
from llmservice_runtime.install.wheel import exclusive
with exclusive(Path(sys.argv[1]), "waiting"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def llama_wheel() -> WheelPlan:
    assert RECIPE.wheel
    return plan_wheel("llama.cpp", RECIPE.wheel, split_lock(RECIPE.lock.read_text(), RECIPE.wheel.package))


def test_an_engine_that_is_not_there_or_half_there_is_refused_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(tmp_path))
    (tmp_path / "llamacpp" / "bin").mkdir(parents=True)
    (tmp_path / "llamacpp" / "bin" / "python").touch()
    with pytest.raises(UserError) as error:
        engine_python(EngineType.LLAMA_CPP)
    assert error.value.failure is FailureClass.ENGINE_NOT_INSTALLED
    assert error.value.remedy == "Install it with: llmservice-runtime install llamacpp"
    assert not installed_engines()[EngineType.LLAMA_CPP]
    (tmp_path / "llamacpp" / "engine.json").write_text("{}")
    assert engine_python(EngineType.LLAMA_CPP) == tmp_path / "llamacpp" / "bin" / "python"
    assert installed_engines()[EngineType.LLAMA_CPP]


def test_an_engine_that_this_release_has_no_environment_for_is_said_to_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(tmp_path))
    made = replace(registry.definition(EngineType.VLLM), recipe=None)
    monkeypatch.setattr(registry, "definition", lambda engine: made)
    with pytest.raises(UserError, match="no environment for the engine"):
        engine_python(EngineType.VLLM)
    with pytest.raises(UserError, match="no environment for the engine"):
        install(Install(EngineType.VLLM))
    assert not installed_engines()[EngineType.VLLM]


@pytest.mark.parametrize(
    ("os_release", "command"),
    [
        ('ID=ubuntu\nID_LIKE=debian\nNAME="Ubuntu"\n', "apt-get install build-essential"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf install gcc gcc-c++"),
        ("ID=alpine\n", "apk add build-base"),
        ("", "package manager"),
    ],
)
def test_a_missing_compiler_is_named_with_its_package(tmp_path: Path, os_release: str, command: str) -> None:
    cc = tmp_path / "gcc"
    cc.write_text("#!/bin/sh\n")
    cc.chmod(0o755)
    with pytest.raises(InstallError) as error:
        require_compiler("llama.cpp", {"PATH": str(tmp_path)}, os_release)
    assert "no C++ compiler" in error.value.reason and command in error.value.remedy


def test_missing_headers_are_named_with_their_package(tmp_path: Path) -> None:
    with pytest.raises(InstallError) as error:
        require_headers("vLLM", tmp_path, "ID=debian\n")
    assert str(tmp_path) in error.value.reason and "apt-get install python3-dev" in error.value.remedy
    (tmp_path / "Python.h").touch()
    require_headers("vLLM", tmp_path)


@pytest.mark.parametrize(
    ("os_release", "command"),
    [("ID=debian\n", "apt-get install libnuma1"), ("ID=arch\n", "pacman -S numactl"), ("", "package manager")],
)
def test_a_missing_library_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, os_release: str, command: str
) -> None:
    def load(name: str) -> None:
        raise OSError(name)

    require_libraries("vLLM", ("libc.so.6",))
    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(InstallError) as error:
        require_libraries("vLLM", VLLM.libraries, os_release)
    assert "libnuma.so.1" in error.value.reason and command in error.value.remedy


def test_a_cached_wheel_is_used_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = llama_wheel()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InstallError):
        obtain_wheel(plan, tmp_path)
    assert cached_wheel(plan, tmp_path) is None
    wheel = tmp_path / plan.key / "llama_cpp_python-0.whl"
    wheel.parent.mkdir()
    wheel.touch()
    assert obtain_wheel(plan, tmp_path) == wheel


def test_a_second_installer_waits_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    command = [sys.executable, "-c", HOLD, lock]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first:  # type: ignore[call-overload]
        assert first.stdout.readline() == "held\n"
        with subprocess.Popen(command, **pipes) as second:  # type: ignore[call-overload]
            assert second.stderr.readline() == "waiting\n"
            first.kill()
            assert second.stdout.readline() == "held\n"
            second.communicate("\n", timeout=10)


def test_an_engine_without_a_wheel_of_its_own_gets_its_lock_and_this_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "engine.lock"
    lock.write_text("# nothing\n")
    made = replace(registry.definition(EngineType.VLLM), recipe=Recipe(lock))
    monkeypatch.setattr(registry, "definition", lambda engine: made)
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(tmp_path / "engines"))
    folder = install(Install(EngineType.VLLM))
    assert engine_python(EngineType.VLLM) == folder / "bin" / "python"
    where = [str(folder / "bin" / "python"), "-c", "import llmservice_runtime; print(llmservice_runtime.__path__[0])"]
    assert str(folder) in subprocess.run(where, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    before = (folder / "engine.json").stat().st_mtime_ns
    assert install(Install(EngineType.VLLM)) == folder and (folder / "engine.json").stat().st_mtime_ns == before


def test_an_engine_that_needs_no_environment_is_always_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(registry.definition(EngineType.VLLM), recipe=NoEnvironment())
    monkeypatch.setattr(registry, "definition", lambda engine: made)
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(tmp_path))
    assert all(installed_engines().values())
    assert engine_python(EngineType.VLLM) == Path(sys.executable)
    assert install(Install(EngineType.VLLM)) == Path(sys.prefix) and not list(tmp_path.iterdir())


def test_a_build_that_crashes_on_this_cpu_is_refused_with_a_way_out(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nkill -ILL $$\n")
    python.chmod(0o755)
    with pytest.raises(InstallError, match="SIGILL") as error:
        prove(tmp_path, EngineType.LLAMA_CPP, RECIPE)
    assert "--portable" in error.value.remedy


def test_a_self_test_that_does_not_end_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A software driver compiles its shaders for minutes on a busy machine."""
    monkeypatch.setattr(make, "PROOF_SECONDS", 0.2)
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    with pytest.raises(InstallError, match="did not end its self-test within 0 s") as error:
        prove(tmp_path, EngineType.LLAMA_CPP, RECIPE)
    assert "llmservice-runtime install llamacpp" in error.value.remedy


def test_a_failed_build_quotes_the_compiler_and_names_the_log(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    script = "echo '[1/9] g++ -c a.cpp'; echo 'a.cpp:3:1: error: no such thing'; echo ERROR: Failed building; exit 1"
    progress = ProgressLine("llama.cpp", io.StringIO())
    with pytest.raises(InstallError) as error:
        run_logged(["/bin/sh", "-c", script], progress, log, os.environ, "Building llama.cpp")
    assert "a.cpp:3:1: error: no such thing" in error.value.reason and str(log) in error.value.remedy
    assert "Failed building" in log.read_text()


@pytest.mark.engine
def test_the_proof_passes_on_the_installed_engine() -> None:
    command = [str(engine_python(EngineType.LLAMA_CPP)), "-m", "llmservice_runtime.engines.llamacpp.install.check"]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    assert tiny_model()[:4] == b"GGUF"
