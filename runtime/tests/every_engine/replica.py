"""One replica as it runs in production: `llmservice-runtime serve`, the supervisor and the engine below it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings

from .engines import settings

LOAD_SECONDS = 600.0
"""vLLM takes a minute alone, and five on a machine that is busy with much else."""


class Replica:
    """A supervisor and its engine. `stop` leaves no process behind, whatever state they are in."""

    def __init__(
        self,
        folder: Path,
        engine: EngineType,
        *,
        restart: bool = False,
        environ: dict[str, str] | None = None,
        cwd: Path | None = None,
        before: tuple[str, ...] = (),
        serves: RuntimeSettings | None = None,
        **changes: Any,
    ) -> None:
        """`before`: words before the command, of a program that becomes it. `serves`: another model than the demo."""
        folder.mkdir(parents=True, exist_ok=True)
        self.engine = engine
        self.state_file, self.record_file = folder / "replica.json", folder / "failure.json"
        self.log = folder / "log"
        file = folder / "settings.json"
        changes["failure_log"] = str(self.record_file)
        file.write_text((replace(serves, **changes) if serves else settings(engine, **changes)).to_json())
        program = str(Path(sys.executable).with_name("llmservice-runtime"))
        command = [*before, program, "serve", "--settings", str(file)]
        command += ["--state-file", str(self.state_file), *(["--restart"] if restart else [])]
        env = os.environ | (environ or {})
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, cwd=cwd)

    @property
    def state(self) -> dict[str, Any]:
        """What the supervisor publishes; empty before it has."""
        try:
            body: dict[str, Any] = json.loads(self.state_file.read_text())
        except FileNotFoundError:
            return {}
        return body

    @property
    def record(self) -> dict[str, Any]:
        """The failure record."""
        body: dict[str, Any] = json.loads(self.record_file.read_text())
        return body

    @property
    def url(self) -> str:
        """Of the API, without /v1."""
        return f"http://127.0.0.1:{self.state['port']}"

    def probe(self, path: str) -> tuple[int, str]:
        """What the supervisor's port answers."""
        return get(f"http://127.0.0.1:{self.state['supervisor_port']}{path}")

    def status(self) -> dict[str, Any]:
        """/status of the supervisor."""
        body: dict[str, Any] = json.loads(self.probe("/status")[1])
        return body

    def wait_for(self, what: Callable[[], bool], seconds: float = 60.0) -> None:
        """Until it is so; fails with the log when that takes too long or the supervisor ends."""
        end = time.monotonic() + seconds
        while not what():
            late, code = time.monotonic() > end, self.process.poll()
            assert not late and code is None, f"not in {seconds} s, exit code {code}\n{self.log.read_text()[-8000:]}"
            time.sleep(0.05)

    def wait_ready(self) -> None:
        """Until requests may come."""
        self.wait_for(lambda: bool(self.state.get("ready")), LOAD_SECONDS)

    def computing(self) -> int:
        """The process that computes: the engine's own, or the child in which vLLM does."""
        engine = int(self.state["engine_pid"])
        return next((pid for pid in below(engine) if "EngineCore" in title(pid)), engine)

    @contextmanager
    def slowed(self) -> Iterator[None]:
        """What computes rests most of the time, where that is a process of its own, and until its server answers: the
        demo model is so small that it else has said all before a server, kept from its processors, has told of it."""
        pid, over = self.computing(), threading.Event()
        if pid == int(self.state["engine_pid"]):
            yield
            return

        def rest() -> None:
            with suppress(OSError, HTTPException):  # either may end
                while not over.wait(0.01):
                    os.kill(pid, signal.SIGSTOP)
                    try:
                        over.wait(0.05)
                        get(f"{self.url}/metrics")
                    finally:
                        os.kill(pid, signal.SIGCONT)

        with ThreadPoolExecutor(1) as pool:
            resting = pool.submit(rest)
            try:
                yield
            finally:
                over.set()
                resting.result()

    def everything(self) -> list[int]:
        """The processes of the engine that live."""
        engine = self.state.get("engine_pid")
        return [int(engine), *below(int(engine))] if engine else []

    def stop(self, seconds: float = 20.0) -> None:
        """Ends it now. The engine ends with its supervisor, however that died; it is checked."""
        left = self.everything()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        end = time.monotonic() + seconds
        while alive := [pid for pid in left if is_alive(pid)]:
            if time.monotonic() > end:
                for pid in alive:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"{[title(pid) for pid in alive]} outlived the supervisor by {seconds} s")
            time.sleep(0.05)


def get(url: str) -> tuple[int, str]:
    """Status and text."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def below(pid: int) -> Iterator[int]:
    """All descendants."""
    try:
        children = [
            int(word)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for word in (task / "children").read_text().split()
        ]
    except OSError:
        return
    for child in children:
        yield child
        yield from below(child)


def is_alive(pid: int) -> bool:
    """Running, not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def title(pid: int) -> str:
    """Its command line; empty = it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
