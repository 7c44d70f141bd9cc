"""The peer: llama-server, built from the llama.cpp source inside the same llama-cpp-python sdist, with the same flags."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx


def build(sdist: Path, cmake_flags: list[str], key: str, cache: Path) -> Path:
    """Path of the llama-server binary; built once per key (version and CPU flags), then cached."""
    binary = cache / "bench" / key / "llama-server"
    if binary.exists():
        return binary
    cmake = shutil.which("cmake")
    if cmake is None:
        raise SystemExit("error: cmake is missing; fix: install your distribution's cmake package")
    binary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        source = next(Path(folder).glob("llama_cpp_python-*/vendor/llama.cpp"))
        tree = Path(folder) / "build"
        only_server = ["LLAMA_CURL", "LLAMA_OPENSSL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_UI"]
        switches = [f"-D{name}=OFF" for name in [*only_server, "LLAMA_USE_PREBUILT_UI", "BUILD_SHARED_LIBS"]]
        print("==> building llama-server (once)", flush=True)
        configure = [cmake, "-S", str(source), "-B", str(tree), "-DCMAKE_BUILD_TYPE=Release", *cmake_flags, *switches]
        subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([cmake, "--build", str(tree), "--target", "llama-server", "-j"], check=True)
        shutil.copy2(tree / "bin" / "llama-server", binary.with_suffix(".new"))
        binary.with_suffix(".new").rename(binary)
    return binary


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(url: str, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Return when `url` answers 200; SystemExit when the process ends or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"error: {process.args!r} ended with {process.returncode}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=2).status_code == 200:
                return
        time.sleep(0.05)
    raise SystemExit(f"error: {url} did not answer within {seconds:.0f} s")


@contextlib.contextmanager
def server(binary: Path, model: Path, *, slots: int, context: int, threads: int) -> Iterator[str]:
    """A running llama-server; yields its base URL. `context` is per slot, in tokens."""
    port = free_port()
    command = [str(binary), "-m", str(model), "-np", str(slots), "-c", str(slots * context), "-t", str(threads)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-ui", "--fit", "off"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_ready(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)
