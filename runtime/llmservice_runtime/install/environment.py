"""An engine's environment: a virtual environment of its own with locked packages and this very runtime linked in."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import llmservice_runtime
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines import registry
from llmservice_runtime.engines.base.recipe import NoEnvironment, Recipe
from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.lockfile import entries, split_lock
from llmservice_runtime.install.progress import Progress, ProgressLine
from llmservice_runtime.install.tools import require_venv
from llmservice_runtime.install.wheel import (
    WheelPlan,
    default_wheel_cache,
    exclusive,
    obtain_wheel,
    plan_wheel,
    run_logged,
)

ENGINES_ENV = "LLMSERVICE_ENGINES_DIR"
STAMP = "engine.json"
RUNTIME = Path(llmservice_runtime.__file__).parent


@dataclass(frozen=True, slots=True)
class Install:
    """What is asked for. `wheel_cache` None = the default cache."""

    engine: EngineType
    wheel_cache: Path | None = None
    rebuild: bool = False
    portable: bool = False


def engines_dir(environ: Mapping[str, str] | None = None) -> Path:
    """LLMSERVICE_ENGINES_DIR, else `engines` beside the environment this program runs in."""
    env = os.environ if environ is None else environ
    if folder := env.get(ENGINES_ENV):
        return Path(folder).expanduser().absolute()
    return Path(sys.prefix) / "engines"


def engine_python(engine: EngineType) -> Path:
    """The interpreter of an installed engine; UserError (EngineNotInstalled) says how to install it."""
    folder = engines_dir() / engine.folder
    if _complete(folder):
        return folder / "bin" / "python"
    if _recipe(engine) is None:
        return Path(sys.executable)
    raise UserError(
        f"The engine {engine.value} is not installed in {folder}.",
        f"Install it with: {install_command(engine)}",
        FailureClass.ENGINE_NOT_INSTALLED,
    )


def install_command(engine: EngineType) -> str:
    """What a person types to install it; empty = this release has no environment for it."""
    return f"llmservice-runtime install {engine.folder}" if registry.definition(engine).recipe else ""


def installed_engines() -> dict[EngineType, bool]:
    """Every engine of the API, and whether it can run here now."""
    return {engine: _installed(engine) for engine in EngineType}


def _installed(engine: EngineType) -> bool:
    recipe = registry.definition(engine).recipe
    return isinstance(recipe, NoEnvironment) or (recipe is not None and _complete(engines_dir() / engine.folder))


def build_wheel(request: Install) -> Path:
    """The engine's own wheel, from the cache or built now."""
    plan = wheel_plan(request)
    if plan is None:
        raise UserError(f"Nothing is built for the engine {request.engine.value}.", "Leave --wheel-only out.")
    return _obtain(request, plan)


def install(request: Install) -> Path:
    """Create (or complete) the engine's environment and prove it; its folder. Nothing is done when it is there already.

    Interrupted anywhere, it is not taken for installed: the stamp is written last.
    """
    folder = engines_dir() / request.engine.folder
    recipe = _recipe(request.engine)
    if recipe is None:
        _say(f"{request.engine.value} runs in {sys.prefix}; there is nothing to install")
        return Path(sys.prefix)
    plan = wheel_plan(request)
    wanted = _stamp(recipe, plan)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.parent / f".{folder.name}.lock", "another process installs this engine; waiting for it"):
        if not request.rebuild and _complete(folder) and _read_stamp(folder) == wanted:
            _say(f"{request.engine.value} is installed in {folder}")
            return folder
        require_venv()
        _fill(folder, recipe, plan, _obtain(request, plan) if plan else None)
        prove(folder, request.engine)
        (folder / STAMP).write_text(json.dumps(wanted, indent=2) + "\n")
    _say(f"{request.engine.value} is installed in {folder}")
    return folder


def _recipe(engine: EngineType) -> Recipe | None:
    """None = it needs no environment of its own. UserError when this release has none for it."""
    recipe = registry.definition(engine).recipe
    if recipe is None:
        raise UserError(
            f"This release has no environment for the engine {engine.value}.",
            "Choose a model that an installed engine runs (llmservice engines says which), or leave engine.type out.",
            FailureClass.ENGINE_NOT_INSTALLED,
        )
    return None if isinstance(recipe, NoEnvironment) else recipe


def wheel_plan(request: Install) -> WheelPlan | None:
    """What is built for the engine on this machine; None = nothing."""
    recipe = _recipe(request.engine)
    if recipe is None or recipe.wheel is None:
        return None
    locked = split_lock(recipe.lock.read_text(), recipe.wheel.package)
    return plan_wheel(registry.label(request.engine), recipe.wheel, locked, request.portable)


def _obtain(request: Install, plan: WheelPlan) -> Path:
    cache = request.wheel_cache or default_wheel_cache()
    return obtain_wheel(plan, cache.absolute(), request.rebuild)


def _stamp(recipe: Recipe, plan: WheelPlan | None) -> dict[str, str]:
    """What an environment was made from; another value means that it is made again."""
    return {
        "wheel": plan.key if plan else "",
        "lock": hashlib.sha256(recipe.lock.read_bytes()).hexdigest(),
        "python": sys.version.split()[0],
        "runtime": str(RUNTIME),
    }


def _read_stamp(folder: Path) -> object:
    try:
        return json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return None


def _complete(folder: Path) -> bool:
    return (folder / STAMP).is_file() and (folder / "bin" / "python").exists()


def _fill(folder: Path, recipe: Recipe, plan: WheelPlan | None, wheel: Path | None) -> None:
    """A fresh virtual environment with the wheel, the rest of the lock, and a link to the running runtime package."""
    (folder / STAMP).unlink(missing_ok=True)
    log = folder.parent / f"{folder.name}.log"
    log.write_text("")
    packages = plan.locked.rest if plan else recipe.lock.read_text()
    progress = _Packages(len(entries(packages)))
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install"]
    run_logged([sys.executable, "-m", "venv", "--clear", str(folder)], progress, log, env, "Making the environment")
    lock = folder / "packages.lock"
    lock.write_text(packages)
    run_logged([*pip, "--require-hashes", "-r", str(lock)], progress, log, env, "Installing packages")
    if wheel is not None:
        run_logged([*pip, "--no-deps", "--no-index", str(wheel)], progress, log, env, f"Installing {wheel.name}")
    # Where PYTHONDONTWRITEBYTECODE is set pip leaves this out, and every start of the engine would compile them all.
    compiling = [str(python), "-m", "compileall", "-q", str(folder / "lib")]
    run_logged(compiling, progress, log, env, "Compiling packages")
    progress.done("installed")
    for site in (folder / "lib").glob("python3*/site-packages"):
        (site / RUNTIME.name).symlink_to(RUNTIME, target_is_directory=True)


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


def prove(folder: Path, engine: EngineType) -> None:
    """Run what was installed in a child, so that a crash is an InstallError with a remedy."""
    recipe = _recipe(engine)
    if recipe is None or not recipe.proof:
        return
    command = [str(folder / "bin" / "python"), "-P", "-m", recipe.proof]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if run.returncode == 0:
        return
    title, remedy = registry.label(engine), f"Install it again: {install_command(engine)} --rebuild"
    if recipe.wheel:
        remedy = f"Build it without newer CPU features: {install_command(engine)} --portable --rebuild"
    if run.returncode in (-signal.SIGILL, -signal.SIGSEGV, -signal.SIGBUS):
        name = signal.Signals(-run.returncode).name
        raise InstallError(f"The built {title} crashes on this CPU ({name}).", remedy)
    words = run.stderr.strip().splitlines()
    raise InstallError(f"The built {title} failed its self-test: {words[-1] if words else run.returncode}.", remedy)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
