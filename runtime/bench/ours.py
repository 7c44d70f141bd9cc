"""Our runtime as users get it: `llmservice-runtime serve` with a settings file."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.process import free_port, running
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings


@contextlib.contextmanager
def server(
    model: Path,
    *,
    sequences: int,
    context: int,
    threads: int,
    engine: EngineType = EngineType.LLAMA_CPP,
    task: str = "Completion",
    **more: Any,
) -> Iterator[str]:
    """A running supervisor and engine; yields the engine's base URL. Lengths in tokens; `more` settings."""
    port, supervisor_port = free_port(), free_port()
    settings = RuntimeSettings(
        engine=engine,
        model_path=str(model),
        model_name="bench",
        task=task,
        port=port,
        supervisor_port=supervisor_port,
        context_tokens=context,
        max_sequences=sequences,
        threads=threads,
        drain_seconds=5,
        **more,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.json"
        file.write_text(settings.to_json())
        program = str(Path(sys.executable).with_name("llmservice-runtime"))
        with running([program, "serve", "--settings", str(file)], f"http://127.0.0.1:{supervisor_port}/readyz"):
            yield f"http://127.0.0.1:{port}"
