"""The real command line on a state folder of its own, over real supervisors and scripted (or real) engines."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from llmservice_cli.local.client import Control, NoInstanceError
from llmservice_runtime.engines.llamacpp.install.check import tiny_model

HERE = Path(__file__).parent
CLI = (
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from llmservice_cli.entry import run; sys.exit(run())",
)


def fake_engines(folder: Path, *devices: str) -> Path:
    """An engines folder whose llama.cpp is the scripted engine, built for these devices."""
    python = folder / "llamacpp" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "scripted_engine.py"} "$@"\n')
    python.chmod(0o755)
    (folder / "llamacpp" / "engine.json").write_text(json.dumps({"devices": devices} if devices else {}))
    return folder


GPU = "NVIDIA GeForce RTX 4090"


def gpu_id(number: int) -> str:
    return f"GPU-{number}1111111-2222-3333-4444-555555555555"


def fake_gpus(here: Here, *free_mib: int) -> None:
    """So many GPUs as an nvidia-smi tells of them, with so much free memory each."""
    program = here.folder / "bin" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    rows = [f"{GPU}, 24564, 8.9, {n}, {gpu_id(n)}, {free}" for n, free in enumerate(free_mib)]
    (program.parent / "rows").write_text("\n".join(rows) + "\n")
    program.write_text(f"#!/bin/sh\nexec cat {program.parent}/rows\n")
    program.chmod(0o755)
    here.env["PATH"] = f"{program.parent}:{here.env['PATH']}"


def manifest(name: str, *, replicas: int = 1, drain: int = 10, uri: str = "file://tiny.gguf", **env: object) -> str:
    return json.dumps(
        {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": name},
            "spec": {
                "model": {"uri": uri},
                "engine": {"env": [{"name": key, "value": str(value)} for key, value in env.items()]},
                "replicas": replicas,
                "endpoint": {"drainSeconds": drain},
            },
        }
    )


class Here:
    """One machine, as a user at its shell has it."""

    def __init__(self, folder: Path, engines: Path | None) -> None:
        self.folder = folder
        (folder / "tiny.gguf").write_bytes(tiny_model())
        self.state = folder / "state"
        self.runtime = folder / "runtime"
        self.runtime.mkdir(exist_ok=True)
        self.env = {
            **os.environ,
            "LLMSERVICE_STATE_DIR": str(self.state),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PYTHONUNBUFFERED": "1",
        }
        if engines is not None:
            self.env["LLMSERVICE_ENGINES_DIR"] = str(engines)
        self.control = Control(self.state)
        self.said = ""
        self.terminals: list[subprocess.Popen[bytes]] = []

    def write(self, *manifests: str, name: str = "x.yaml") -> str:
        path = self.folder / name
        path.write_text("\n---\n".join(manifests))
        return str(path)

    def run(self, *words: str, stdin: str = "", code: int | None = 0, seconds: float = 60) -> str:
        """One command to its end; what it printed."""
        done = subprocess.run(
            [*CLI, *words], env=self.env, cwd=self.folder, input=stdin, capture_output=True, text=True, timeout=seconds
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def up(self, *manifests: str, code: int = 0) -> str:
        """Apply to the instance that runs; what was printed."""
        return self.run("up", "-f", self.write(*manifests), code=code)

    @contextmanager
    def foreground(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """`up` that runs beside the test."""
        process = subprocess.Popen(
            [*CLI, "up", *words],
            env=self.env,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def ready(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait until `count` replicas of a service are ready; its entry in the snapshot."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            try:
                found[:] = [s for s in self.snapshot()["services"] if s["object"]["metadata"]["name"] == name]
            except NoInstanceError:
                return False
            return bool(found) and found[0]["object"]["status"]["readyReplicas"] == count

        until(look)
        return found[0]

    def service(self, name: str) -> dict[str, Any]:
        """Its entry in the snapshot."""
        services: list[dict[str, Any]] = self.snapshot()["services"]
        return next(entry for entry in services if entry["object"]["metadata"]["name"] == name)

    def snapshot(self) -> dict[str, Any]:
        return self.control.snapshot()

    def pids(self) -> list[int]:
        """Every process that was started from this state folder."""
        mine = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if os.fsencode(self.state) in line and int(entry.name) != os.getpid():
                    mine.append(int(entry.name))
        return mine

    def end(self) -> None:
        for left in self.terminals:  # by a test that failed
            left.kill()
            left.wait()
        try:
            for _ in self.control.down([], force=True):
                pass
        except NoInstanceError:
            pass
        until(lambda: not self.pids())


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, here: Here, *words: str) -> None:
        self.fd, child = pty.openpty()
        self.process = subprocess.Popen(
            [*CLI, *words], env=here.env, stdin=child, stdout=child, stderr=child, start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )  # fmt: skip
        os.close(child)
        here.terminals.append(self.process)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 60
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.5)[0]:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")

    def type(self, text: str) -> None:
        self.seen = ""
        os.write(self.fd, text.encode())


class Stream:
    """A chat stream read in a thread of its own. `begun`: wait until its first line is there."""

    def __init__(self, url: str, model: str, *, begun: bool = True) -> None:
        self.text = ""
        self.began = self.ended = 0.0
        """time.monotonic() of its first and its last line."""
        self.started = threading.Event()
        self._request = (url, model)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        assert not begun or self.started.wait(10)

    def _read(self) -> None:
        import asyncio

        async def read() -> None:
            url, model = self._request
            body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "x"}]}
            async with aiohttp.ClientSession() as session, session.post(f"{url}/chat/completions", json=body) as answer:
                async for line in answer.content:
                    self.text += line.decode()
                    self.ended = time.monotonic()
                    if b"content" in line and not self.began:
                        self.began = self.ended
                    self.started.set()

        asyncio.run(read())

    def whole(self, seconds: float = 20) -> str:
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        return self.text


def until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"did not happen in {seconds} s"
        time.sleep(0.03)
