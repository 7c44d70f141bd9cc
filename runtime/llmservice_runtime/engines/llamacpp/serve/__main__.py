"""`python -m llmservice_runtime.engines.llamacpp.serve --settings FILE`: one model, for the supervisor to start."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.launch import run
from llmservice_runtime.openai.loading import HostedEngine
from llmservice_runtime.openai.metrics import EngineMetrics


def main() -> int:
    """Serve until told to stop; the exit code."""
    parser = argparse.ArgumentParser(prog="llmservice_runtime.engines.llamacpp.serve", description=__doc__)
    parser.add_argument("--settings", required=True, type=Path, help="JSON file of RuntimeSettings")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = RuntimeSettings.from_json(arguments.settings.read_text())
    except (OSError, ValueError) as error:
        parser.error(f"{arguments.settings}: {error}")
    return run(settings, _load)


def _load(settings: RuntimeSettings, metrics: EngineMetrics, progress: Callable[[float], None]) -> HostedEngine:
    # The native library is imported when the port is bound, not before.
    from llmservice_runtime.engines.llamacpp.serve.lean import import_llama_cpp

    import_llama_cpp()
    from llmservice_runtime.engines.llamacpp.serve.process import load

    return load(settings, metrics, progress)


if __name__ == "__main__":
    sys.exit(main())
