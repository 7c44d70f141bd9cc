"""The peer: llama-server, built with the engine's flags from the llama.cpp source inside the engine's own sdist."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.process import free_port, running
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.install.make import Install, wheel_plan
from llmservice_runtime.install.wheel import WheelPlan, exclusive

SWITCHED_OFF = (
    "LLAMA_CURL",
    "LLAMA_OPENSSL",
    "LLAMA_BUILD_TESTS",
    "LLAMA_BUILD_EXAMPLES",
    "LLAMA_BUILD_UI",
    "LLAMA_USE_PREBUILT_UI",
    "BUILD_SHARED_LIBS",
)
"""What of llama.cpp the server does not need for a measurement."""


def build(cache: Path) -> Path:
    """llama-server for this CPU: the engine's own sdist, flags and locked build tools; built once, then cached."""
    plan = wheel_plan(Install(EngineType.LLAMA_CPP))
    assert plan
    binary = cache / plan.key / "llama-server"
    binary.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(binary.with_name(".lock"), "another process builds llama-server; waiting for it"):
        if not binary.exists():
            _build(plan, binary)
    return binary


def _build(plan: WheelPlan, binary: Path) -> None:
    print("==> building llama-server (once)", flush=True)
    with tempfile.TemporaryDirectory(dir=binary.parent) as name:
        folder = Path(name)
        source, tools = _unpack(plan, folder), _tools(plan, folder)
        switches = [f"-D{switch}=OFF" for switch in SWITCHED_OFF]
        configure = [str(tools / "cmake"), "-S", str(source), "-B", str(folder / "build"), "-G", "Ninja"]
        env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}
        options = ["-DCMAKE_BUILD_TYPE=Release", *plan.flags, *switches]
        subprocess.run([*configure, *options], check=True, stdout=subprocess.DEVNULL, env=env)
        make = [str(tools / "cmake"), "--build", str(folder / "build"), "--target", "llama-server"]
        subprocess.run(make, check=True, env=env)
        shutil.copy2(folder / "build" / "bin" / "llama-server", binary.with_suffix(".new"))
    binary.with_suffix(".new").rename(binary)


def _unpack(plan: WheelPlan, folder: Path) -> Path:
    """llama.cpp's source inside the locked sdist, whose hash pip checks."""
    lock = folder / "source.lock"
    lock.write_text(plan.locked.entry)
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
    subprocess.run([*fetch, "-r", str(lock), "-d", str(folder)], check=True)
    with tarfile.open(next(folder.glob("llama_cpp_python-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))


def _tools(plan: WheelPlan, folder: Path) -> Path:
    """A folder with cmake and ninja, from their lock."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "tools")], check=True)
    pip = [str(folder / "tools" / "bin" / "pip"), "install", "-q", "--require-hashes", "-r", str(plan.build_lock)]
    subprocess.run(pip, check=True)
    return folder / "tools" / "bin"


@contextlib.contextmanager
def embedder(binary: Path, model: Path, *, context: int, threads: int) -> Iterator[str]:
    """A llama-server that makes vectors, of texts as long as `context`, sixteen at a time; yields its base URL."""
    port = free_port()
    command = [str(binary), "-m", str(model), "--embedding", "-np", "16", "-c", str(16 * context), "-t", str(threads)]
    command += ["-b", "2048", "-ub", "2048", "--host", "127.0.0.1", "--port", str(port), "--no-ui", "--fit", "off"]
    with running(command, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def server(
    binary: Path, model: Path, *, slots: int, context: int, threads: int, adapters: Sequence[Path] = ()
) -> Iterator[str]:
    """A running llama-server; yields its base URL. `context` is per slot, in tokens. `adapters`: GGUFs of LoRAs, which
    requests ask for by their numbers."""
    port = free_port()
    command = [str(binary), "-m", str(model), "-np", str(slots), "-c", str(slots * context), "-t", str(threads)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-ui", "--fit", "off"]
    if adapters:
        command += ["--lora", ",".join(map(str, adapters)), "--lora-init-without-apply"]
    with running(command, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"
