"""The image stages that install engines copy all of the runtime that installing imports, and have no packages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import llmservice_runtime
from llmservice_runtime.contract.engines import EngineType

CHECKOUT = Path(llmservice_runtime.__file__).parents[2]
INSTALL = """
import sys
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.install.make import Install, expected
from llmservice_runtime.machine.machine import Device
engine = next(engine for engine in EngineType if engine.folder == sys.argv[1])
print(expected(Install(engine, portable=True, device=sys.argv[2])).fetched)
"""


def stage(name: str) -> tuple[str, str]:
    """What a stage begins from, and its lines."""
    text = (CHECKOUT / "runtime" / "Dockerfile").read_text().replace("\\\n", " ")
    found = re.search(rf"^FROM (\S+) AS {name}\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1], found[2]


def copied(name: str, into: Path) -> None:
    """What the COPY lines of a stage, and of those that it begins from, lay below the runtime's package."""
    before, lines = stage(name)
    if before not in ("tools", "compiling", "scratch"):
        copied(before, into)
    for line in re.findall(r"^COPY (.+)$", lines, re.MULTILINE):
        *sources, target = line.split()
        if sources[0].startswith("--from="):
            copied(sources[0].removeprefix("--from="), into)
            continue
        if not re.match(r"\$\{RUNTIME\}|/runtime", target):
            continue
        place = into / "llmservice_runtime" / re.sub(r"^(\$\{RUNTIME\}|/runtime)", "", target).strip("/")
        found = {pattern: list(CHECKOUT.glob(pattern)) for pattern in sources}
        assert all(found.values()), f"{name} copies what is not there: {found}"
        for source in (source for sources in found.values() for source in sources):
            if source.is_dir():
                shutil.copytree(source, place, dirs_exist_ok=True)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place)


STAGES = [(engine.folder, engine.folder, "cpu") for engine in EngineType]


@pytest.mark.parametrize(("name", "engine", "device"), [*STAGES, ("llamacpp-cuda", "llamacpp", "cuda")])
def test_the_stage_of_an_engine_has_all_that_installing_imports(
    tmp_path: Path, name: str, engine: str, device: str
) -> None:
    copied(name, tmp_path)
    command = [sys.executable, "-S", "-c", INSTALL, engine, device]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and int(run.stdout) > 10_000_000, run.stderr
    command = [sys.executable, "-S", "-m", "llmservice_runtime", "install", "--help"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    proof = tmp_path / "llmservice_runtime" / "engines" / engine / "install" / "check.py"
    assert proof.is_file()


def test_the_stage_of_torch_has_all_that_installing_it_imports(tmp_path: Path) -> None:
    copied("torch", tmp_path)
    command = [sys.executable, "-S", "-m", "llmservice_runtime.install.layers", "--help"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
