"""Our runtime as users get it: `llmservice-runtime serve` with a settings file."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.peer import free_port, wait_ready
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings


@contextlib.contextmanager
def server(model: Path, *, sequences: int, context: int, threads: int) -> Iterator[str]:
    """A running supervisor and engine; yields the engine's base URL. Lengths in tokens."""
    port, supervisor_port = free_port(), free_port()
    settings = RuntimeSettings(
        engine=EngineType.LLAMA_CPP,
        model_path=str(model),
        model_name="bench",
        task="Completion",
        port=port,
        supervisor_port=supervisor_port,
        context_tokens=context,
        max_sequences=sequences,
        threads=threads,
        drain_seconds=5,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.json"
        file.write_text(settings.to_json())
        program = Path(sys.executable).with_name("llmservice-runtime")
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen([str(program), "serve", "--settings", str(file)], stdout=log, stderr=log)
            try:
                wait_ready(f"http://127.0.0.1:{supervisor_port}/readyz", process)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait(timeout=30)
