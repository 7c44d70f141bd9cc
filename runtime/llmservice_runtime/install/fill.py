"""Filling an engine's environment: pip for a few packages and a wheel of our own, uv for those of some GB."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import llmservice_runtime
from llmservice_runtime.engines.base.recipe import Recipe
from llmservice_runtime.install import dist_infos, layers
from llmservice_runtime.install.layers import Part
from llmservice_runtime.install.lockfile import entries
from llmservice_runtime.install.progress import Progress, ProgressLine
from llmservice_runtime.install.run import run_logged
from llmservice_runtime.install.space import Size
from llmservice_runtime.install.uv import Uv
from llmservice_runtime.install.wheel import WheelPlan

RUNTIME = Path(llmservice_runtime.__file__).parent
LAYERS_FILE, STARTUP_FILE = "llmservice-layers.pth", "llmservice-startup.pth"
ENVIRON = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def with_pip(folder: Path, lock: Path, wheel: Path | None, log: Path) -> None:
    """A fresh virtual environment with the packages of a lock, and a wheel that was built here."""
    progress = _Packages(len(entries(lock.read_text())))
    env = {**os.environ, **ENVIRON}
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install"]
    run_logged([sys.executable, "-m", "venv", "--clear", str(folder)], progress, log, env, "Making the environment")
    run_logged([*pip, "--require-hashes", "-r", str(lock)], progress, log, env, "Installing packages")
    if wheel is not None:
        run_logged([*pip, "--no-deps", "--no-index", str(wheel)], progress, log, env, f"Installing {wheel.name}")
    # Where PYTHONDONTWRITEBYTECODE is set pip leaves this out, and every start of the engine would compile them all.
    compiling = [str(python), "-m", "compileall", "-q", str(folder / "lib")]
    run_logged(compiling, progress, log, env, "Compiling packages")
    progress.done("installed")


def with_uv(folder: Path, lock: Path, title: str, size: Size, log: Path, uv: Uv) -> None:
    """A fresh virtual environment with the packages of a lock. What its proof imports is compiled by that."""
    progress = ProgressLine(title)
    make = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)]
    run_logged(make, progress, log, os.environ, "Making the environment")
    uv.install(["--python", str(folder / "bin" / "python")], lock, title, size.fetched)


def complete(folder: Path, recipe: Recipe, parts: tuple[Part, ...]) -> None:
    """What leads out of the environment, to the running runtime package and the layers; and what is metadata alone."""
    for packages in (folder / "lib").glob("python3*/site-packages"):
        (packages / RUNTIME.name).symlink_to(RUNTIME, target_is_directory=True)
        if parts:
            (packages / LAYERS_FILE).write_text("".join(f"{part.folder}\n" for part in parts))
        if recipe.startup:
            (packages / STARTUP_FILE).write_text(f"{recipe.startup}\n")
        for info in recipe.dist_infos:
            dist_infos.write(info, packages)


def locked(recipe: Recipe, plan: WheelPlan | None) -> str:
    """What of the recipe's lock goes into the environment itself."""
    return layers.without(plan.locked.rest if plan else recipe.lock.read_text(), recipe.layers)


class _Packages(ProgressLine):
    """Progress by the packages pip has come to."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._seen = 0
        super().__init__("environment")

    def feed(self, line: str) -> None:
        """One line of pip's output."""
        if line.startswith("Collecting "):
            self._seen += 1
            self.advance(Progress(min(0.95, self._seen / max(1, self._total)), line.split()[1]))
