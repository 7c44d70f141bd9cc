"""`python -m llmservice_runtime.install.capabilities [--check] [ENGINE...]`: write or check every capabilities.json.

Written in environments made from generate.lock (kept in the cache), or in the engine's own where it has no such lock.
Checked by hashes, and by generating anew where the engine is installed and tells it in seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import llmservice_runtime
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.base.generated import FILE, REMEDY, file_hash, stale
from llmservice_runtime.engines.base.recipe import Recipe
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.install.environment import engines_dir
from llmservice_runtime.install.wheel import exclusive

RUNTIME = Path(llmservice_runtime.__file__).parent
DONE = "complete"


def main(argv: list[str] | None = None) -> int:
    """0 = written, or nothing is stale."""
    parser = argparse.ArgumentParser(prog="llmservice_runtime.install.capabilities", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is stale")
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help="folders below engines/ (default: all)")
    args = parser.parse_args(argv)
    known = [folder.name for folder in engine_folders()]
    if unknown := [name for name in args.engines if name not in known]:
        parser.error(f"no such engine: {', '.join(unknown)}. Those that can be asked are {', '.join(known)}")
    folders = [folder for folder in engine_folders() if not args.engines or folder.name in args.engines]
    problems = [problem for folder in folders for problem in (_check(folder) if args.check else _write(folder))]
    sys.stderr.writelines(f"error: {problem}\n" for problem in problems)
    return 1 if problems else 0


def engine_folders() -> list[Path]:
    """Folders of engines that can be asked."""
    return sorted(file.parent for file in (RUNTIME / "engines").glob("*/generate.py"))


def lock_of(folder: Path) -> Path:
    """What the engine is installed from to be asked: a lock of its own for that, or the one it serves from."""
    own = folder / "generate.lock"
    if own.is_file():
        return own
    recipe = _recipe(folder)
    if not isinstance(recipe, Recipe):
        raise FileNotFoundError(f"{folder} has neither a generate.lock nor a recipe to be asked in.")
    return recipe.lock


def _recipe(folder: Path) -> object:
    return next((definition(engine).recipe for engine in EngineType if engine.folder == folder.name), None)


def differs(folder: Path) -> str:
    """That the engine, asked again, tells something else than its file, as a sentence; empty = no, or not installed."""
    python = engines_dir() / folder.name / "bin" / "python"
    if not python.exists():
        return ""
    with tempfile.TemporaryDirectory() as place:
        anew = Path(place) / FILE
        _ask(folder, python, anew)
        same = anew.read_bytes() == (folder / FILE).read_bytes()
    return "" if same else f"{folder / FILE}: the engine that is installed here tells something else. {REMEDY}"


def _check(folder: Path) -> Iterator[str]:
    if problem := stale(folder / FILE, lock_of(folder)) or (_quick(folder) and differs(folder)):
        yield problem


def _quick(folder: Path) -> bool:
    """Those on a shared layer import some GB, and vLLM every model that it has."""
    recipe = _recipe(folder)
    return isinstance(recipe, Recipe) and not recipe.layers


def _write(folder: Path) -> Iterator[str]:
    python = engines_dir() / folder.name / "bin" / "python"
    if (folder / "generate.lock").is_file():
        python = _environment(folder)
    if not python.exists():
        yield f"{folder.name} is not installed. Install it with: llmservice-runtime install {folder.name}"
        return
    sys.stderr.write(f"==> {folder.name}: asking it\n")
    _ask(folder, python, folder / FILE)


def _ask(folder: Path, python: Path, out: Path) -> None:
    module = f"{RUNTIME.name}.engines.{folder.name}.generate"
    command = [str(python), "-m", module, "--lock", str(lock_of(folder)), "--out", str(out)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(RUNTIME.parent)})


def _environment(folder: Path) -> Path:
    """The interpreter of an environment made from generate.lock: as locked, whatever its packages say of each other."""
    lock = folder / "generate.lock"
    place = cache_dir() / "generate" / f"{folder.name}-{file_hash(lock)[:12]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(place.with_name(f".{place.name}.lock"), f"another process makes {place.name}; waiting for it"):
        if not (place / DONE).is_file():
            sys.stderr.write(f"==> {folder.name}: an environment to ask it in, {place}\n")
            _fill(place, lock)
            (place / DONE).touch()
    return place / "bin" / "python"


def _fill(place: Path, lock: Path) -> None:
    """uv says itself what it fetches; it is some GB."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}") or "uv"
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(place)], check=True)
    into = ["--python", str(place / "bin" / "python")]
    subprocess.run([uv, "pip", "install", *into, "--require-hashes", "--no-deps", "-r", str(lock)], check=True)


if __name__ == "__main__":
    sys.exit(main())
