"""The image stage that installs llama.cpp copies all of the runtime that installing imports, and has no packages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import llmservice_runtime

CHECKOUT = Path(llmservice_runtime.__file__).parents[2]
INSTALL = """
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.install.make import Install, wheel_plan
print(wheel_plan(Install(EngineType.LLAMA_CPP, portable=True)).key)
"""


def copied(dockerfile: str, into: Path) -> None:
    """What the stage's COPY lines lay below `${RUNTIME}`."""
    stage = dockerfile.split("FROM tools AS llamacpp\n")[1].split("\nFROM ")[0]
    for line in re.findall(r"^COPY (.+)$", stage.replace("\\\n", " "), re.MULTILINE):
        *sources, target = line.split()
        place = into / "llmservice_runtime" / target.removeprefix("${RUNTIME}").strip("/")
        for source in (found for pattern in sources for found in CHECKOUT.glob(pattern)):
            if source.is_dir():
                shutil.copytree(source, place)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place)


def test_the_stage_has_all_that_installing_imports(tmp_path: Path) -> None:
    copied((CHECKOUT / "runtime" / "Dockerfile").read_text(), tmp_path)
    run = subprocess.run(
        [sys.executable, "-S", "-c", INSTALL], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.stdout.startswith("llama-cpp-python-"), run.stderr
    command = [sys.executable, "-S", "-m", "llmservice_runtime", "install", "--help"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
