"""How long a user waits before anything happens: `python -m bench.startup [--rounds N]`.

Every round times each command once, so that all see the same machine; the peer is an interpreter that does nothing.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import ours

PROMPT_SECONDS = 60.0
"""Without a word from `run` for so long nothing more is measured."""
MODEL = Path(__file__).parents[1] / "demo" / "model" / "demo-Q4_K_M.gguf"
MANIFEST = f"""apiVersion: llmservice.dev/v1alpha1
kind: LLMService
metadata: {{name: demo}}
spec: {{model: {{uri: "file://{MODEL}"}}}}
"""
LOAD = """
import sys, time, llama_cpp
llama_cpp.llama_backend_init()
started = time.perf_counter()
model = llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), llama_cpp.llama_model_default_params())
context = llama_cpp.llama_init_from_model(model, llama_cpp.llama_context_default_params())
print(time.perf_counter() - started)
"""
"""llama.cpp alone; the interpreter and the import are not counted."""


def main() -> None:
    """Print one line per command: the median in ms and the ratio to a bare interpreter."""
    parser = argparse.ArgumentParser(prog="bench.startup")
    parser.add_argument("--rounds", type=int, default=9)
    rounds: int = parser.parse_args().rounds
    program = str(Path(sys.executable).with_name("llmservice"))
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "demo.yaml"
        manifest.write_text(MANIFEST)
        measured: dict[str, Callable[[], float]] = {
            "python -c pass": lambda: _run([sys.executable, "-c", "pass"]),
            "llmservice --help": lambda: _run([program, "--help"]),
            "llmservice plan": lambda: _run([program, "plan", "-f", str(manifest)]),
            "llama.cpp's load of the demo model": _load,
            "llmservice-runtime serve, to ready": _ready,
            "llmservice run, with nothing running, to its prompt": lambda: _prompt(program, Path(folder)),
        }
        times: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(rounds):
            for name, measure in measured.items():
                times[name].append(measure())
    medians = {name: statistics.median(found) for name, found in times.items()}
    print("| median of rounds | ms | to a bare interpreter |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {1000 * median:.0f} | {median / medians['python -c pass']:.1f} |")


def _run(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _load() -> float:
    command = [sys.executable, "-c", LOAD, str(MODEL)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def _ready() -> float:
    started = time.perf_counter()
    with ours.server(MODEL, sequences=16, context=512, threads=2):
        return time.perf_counter() - started


def _prompt(program: str, folder: Path) -> float:
    """On a terminal. What runs then is ended, and not counted."""
    (folder / "run").mkdir(exist_ok=True)
    places = {"LLMSERVICE_STATE_DIR": str(folder / "state"), "XDG_RUNTIME_DIR": str(folder / "run")}
    environ = {**os.environ, **places}
    ours, theirs = pty.openpty()
    started = time.perf_counter()
    process = subprocess.Popen(
        [program, "run", str(MODEL), "--port", "0"], stdin=theirs, stdout=theirs, stderr=theirs, env=environ,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        seen = b""
        while b">>> " not in seen:
            if not select.select([ours], [], [], PROMPT_SECONDS)[0]:
                raise SystemExit(f"llmservice run came to no prompt: {seen.decode(errors='replace')}")
            seen += os.read(ours, 4096)
        took = time.perf_counter() - started
        os.write(ours, b"/bye\r")
        process.wait(PROMPT_SECONDS)
    finally:
        process.kill()
        os.close(ours)
        subprocess.run([program, "down", "--force"], check=True, env=environ, stdout=subprocess.DEVNULL)
    return took


if __name__ == "__main__":
    main()
