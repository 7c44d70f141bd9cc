"""A supervised replica of vLLM on the demo model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings

DEMO = Path(__file__).parents[2] / "demo" / "model"
START_SECONDS = 400
"""Enough on a busy machine; an idle one needs a tenth."""


class Replica:
    """`llmservice-runtime serve` over vLLM; `ready()` waits for it."""

    def __init__(
        self, folder: Path, *, restart: bool = False, env: dict[str, str] | None = None, **fields: Any
    ) -> None:
        self._state_file, self.record_file, self.log = folder / "state.json", folder / "failure.json", folder / "log"
        values: dict[str, Any] = {
            "engine": EngineType.VLLM, "model_path": str(DEMO), "model_name": "apps/demo", "model_aliases": ("demo",),
            "port": 0, "supervisor_port": 0, "context_tokens": 2048, "max_sequences": 4, "max_queued_requests": 2,
            "load_seconds": START_SECONDS, "failure_log": str(self.record_file), **fields,
        }  # fmt: skip
        settings = folder / "settings.json"
        settings.write_text(RuntimeSettings(**values).to_json())
        command = [sys.executable, "-m", "llmservice_runtime", "serve", "--settings", str(settings)]
        command += ["--state-file", str(self._state_file), *(["--restart"] if restart else [])]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def state(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self._state_file.read_text()) if self._state_file.exists() else {}
        return body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.state['port']}"

    def ready(self) -> Replica:
        wait(lambda: self.state.get("ready") or self.process.poll() is not None, START_SECONDS)
        assert self.state.get("ready"), self.tail()
        return self

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def probe(self, path: str) -> tuple[int, str]:
        return get(f"http://127.0.0.1:{self.state['supervisor_port']}{path}")

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.probe("/status")[1])
        return body

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    def processes(self) -> dict[int, str]:
        """Of the engine's session: id -> what it calls itself."""
        return in_session(self.state.get("engine_pid") or -1)

    def stop(self) -> None:
        """However it is: nothing of it stays."""
        left = self.processes()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in left:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def in_session(session: int) -> dict[int, str]:
    """Processes of a session that run, zombies apart."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (stat := _stat(int(folder.name))) and stat[1] == session and stat[0] != "Z":
            found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def alive(pid: int) -> bool:
    stat = _stat(pid)
    return stat is not None and stat[0] != "Z"


def _stat(pid: int) -> tuple[str, int] | None:
    """(state, session)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[3])


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def wait(condition: Callable[[], Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
