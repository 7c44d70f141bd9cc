"""A process of the Transformers engine, in the environment of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import IO, Any

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.report import LIFELINE_FD_ENV, REPORT_FD_ENV
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.install.environment import engines_dir

PYTHON = engines_dir() / "transformers" / "bin" / "python"
RUNTIME = Path(__file__).parents[2]
DEMO = RUNTIME / "demo" / "model"
ENV = {**os.environ, "PYTHONPATH": str(RUNTIME), "OMP_NUM_THREADS": "1"}
"""One thread: several wait for each other in loops, and for long where other tests take their processors."""


class Running:
    """An engine process, until it is ready or has failed: `first` is that report."""

    def __init__(self, folder: Path, model: Path = DEMO, **fields: Any) -> None:
        settings = folder / "settings.json"
        values = {"model_name": "demo", "port": 0, "context_tokens": 1024, "max_sequences": 4, "threads": 1, **fields}
        settings.write_text(RuntimeSettings(EngineType.TRANSFORMERS, str(model), **values).to_json())
        read, report = os.pipe()
        lifeline, self._life = os.pipe()
        self.child = subprocess.Popen(
            [PYTHON, "-m", "llmservice_runtime.engines.transformers.serve", "--settings", settings],
            pass_fds=(report, lifeline),
            env={**ENV, REPORT_FD_ENV: str(report), LIFELINE_FD_ENV: str(lifeline)},
            stderr=sys.stderr,
        )
        os.close(report)
        os.close(lifeline)
        self.reports: IO[str] = os.fdopen(read)
        self.before: list[dict[str, Any]] = []
        for line in self.reports:
            self.first: dict[str, Any] = json.loads(line)
            if self.first["kind"] in ("ready", "failure"):
                break
            self.before.append(self.first)
        self.url = f"http://127.0.0.1:{self.first.get('port')}"

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return str(answer.read().decode())

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def stop(self) -> int:
        """Its exit code."""
        self.child.send_signal(signal.SIGTERM)
        code = self.child.wait(60)
        os.close(self._life)
        self.reports.close()
        return code
