"""`make bench-gpu`: what it writes of a load, and what it says where no GPU is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import llmservice_runtime

FOLDER = Path(llmservice_runtime.__file__).parents[1]
ROW = """
from bench.gpu import row, runs
line = lambda name, where, predicted, measured: {
    "name": name, "where": where, "predicted": predicted << 20, "measured": measured and measured << 20}
load = {"memory": [line("weights", "GPU", 2000, 2100), line("KV cache of 9 tokens", "GPU", 100, 20000),
                   line("engine and its buffers", "GPU", 2000, 1700), line("engine processes", "Host", 4000, 3000)],
        "tokens_per_second": 123.4, "seconds": 45.6}
print(row(runs()[-1], load, 24500 << 20))
load["memory"][1]["measured"] = load["tokens_per_second"] = None
print(row(runs()[-1], load, 24500 << 20))
"""


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(FOLDER), **env}
    return subprocess.run([sys.executable, *words], env=environ, capture_output=True, text=True, check=False)


def test_a_row_has_each_line_of_the_plan_and_what_the_driver_says() -> None:
    """The cache fills the GPU, so it is not part of the ratio."""
    done = run("-c", ROW)
    first, second = done.stdout.splitlines()
    assert first == "| 1.1 B | vLLM | 2,000 / 2,100 | 100 / 20,000 | 2,000 / 1,700 | 24,500 | 0.95 | 123 | 46 |"
    assert second == "| 1.1 B | vLLM | 2,000 / 2,100 | 100 / ? | 2,000 / 1,700 | 24,500 | 0.95 | ? | 46 |"


def test_without_a_gpu_it_measures_nothing(tmp_path: Path) -> None:
    done = run("-m", "bench.gpu", "--write", str(tmp_path / "page.md"), PATH=str(tmp_path))
    assert done.returncode == 1 and "error: nvidia-smi reports no GPU here\nfix: " in done.stderr
    assert not list(tmp_path.iterdir())
