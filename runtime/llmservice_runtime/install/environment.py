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
from llmservice_runtime.engines.llamacpp.install.tools import require_venv
from llmservice_runtime.engines.llamacpp.install.wheel import (
    ENGINE_LOCK,
    WheelPlan,
    default_wheel_cache,
    exclusive,
    obtain_wheel,
    plan_wheel,
    run_logged,
)
from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.lockfile import entries
from llmservice_runtime.install.progress import Progress, ProgressLine

ENGINES_ENV = "LLMSERVICE_ENGINES_DIR"
STAMP = "engine.json"
RUNTIME = Path(llmservice_runtime.__file__).parent
INSTALLABLE = {EngineType.LLAMA_CPP: "llamacpp"}
"""Engines this release has an environment for, and its folder name."""


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
    folder = engines_dir() / _folder_of(engine)
    python = folder / "bin" / "python"
    if not _complete(folder):
        raise UserError(
            f"The engine {engine.value} is not installed in {folder}.",
            f"Install it with: llmservice-runtime install {_folder_of(engine)}",
            FailureClass.ENGINE_NOT_INSTALLED,
        )
    return python


def installed_engines() -> dict[EngineType, bool]:
    """Every engine of the API, and whether it can run here now."""
    return {engine: engine in INSTALLABLE and _complete(engines_dir() / INSTALLABLE[engine]) for engine in EngineType}


def build_wheel(request: Install) -> Path:
    """The engine's own wheel, from the cache or built now."""
    _folder_of(request.engine)
    cache = request.wheel_cache or default_wheel_cache()
    return obtain_wheel(plan_wheel(request.portable), cache.absolute(), request.rebuild)


def install(request: Install) -> Path:
    """Create (or complete) the engine's environment and prove it; its folder. Nothing is done when it is there already.

    Interrupted anywhere, it is not taken for installed: the stamp is written last.
    """
    folder = engines_dir() / _folder_of(request.engine)
    plan = plan_wheel(request.portable)
    wanted = _stamp(plan)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.parent / f".{folder.name}.lock", "another process installs this engine; waiting for it"):
        if not request.rebuild and _complete(folder) and _read_stamp(folder) == wanted:
            _say(f"{request.engine.value} is installed in {folder}")
            return folder
        require_venv()
        wheel = build_wheel(request)
        _fill(folder, wheel, plan)
        prove(folder)
        (folder / STAMP).write_text(json.dumps(wanted, indent=2) + "\n")
    _say(f"{request.engine.value} is installed in {folder}")
    return folder


def _folder_of(engine: EngineType) -> str:
    if engine not in INSTALLABLE:
        raise UserError(
            f"This release has no environment for the engine {engine.value}; it serves GGUF models with LlamaCpp.",
            "Choose a GGUF file of the model, or leave engine.type out.",
            FailureClass.ENGINE_NOT_INSTALLED,
        )
    return INSTALLABLE[engine]


def _stamp(plan: WheelPlan) -> dict[str, str]:
    """What an environment was made from; another value means that it is made again."""
    return {
        "wheel": plan.key,
        "lock": hashlib.sha256(ENGINE_LOCK.read_bytes()).hexdigest(),
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


def _fill(folder: Path, wheel: Path, plan: WheelPlan) -> None:
    """A fresh virtual environment with the wheel, the rest of the lock, and a link to the running runtime package."""
    (folder / STAMP).unlink(missing_ok=True)
    log = folder.parent / f"{folder.name}.log"
    log.write_text("")
    progress = _Packages(len(entries(plan.locked.rest)))
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install"]
    run_logged([sys.executable, "-m", "venv", "--clear", str(folder)], progress, log, env, "Making the environment")
    rest = folder / "packages.lock"
    rest.write_text(plan.locked.rest)
    run_logged([*pip, "--require-hashes", "-r", str(rest)], progress, log, env, "Installing packages")
    run_logged([*pip, "--no-deps", "--no-index", str(wheel)], progress, log, env, f"Installing {wheel.name}")
    # Where PYTHONDONTWRITEBYTECODE is set pip leaves this out, and every start of the engine would compile them all.
    compiling = [str(python), "-m", "compileall", "-q", str(folder / "lib")]
    run_logged(compiling, progress, log, env, "Compiling packages")
    progress.done("installed")
    for packages in (folder / "lib").glob("python3*/site-packages"):
        (packages / RUNTIME.name).symlink_to(RUNTIME, target_is_directory=True)


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


def prove(folder: Path) -> None:
    """Run the built library in a child, so that a crash is an InstallError with a remedy."""
    command = [str(folder / "bin" / "python"), "-m", "llmservice_runtime.engines.llamacpp.install.check"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if run.returncode == 0:
        return
    portable = "Build it without newer CPU features: llmservice-runtime install llamacpp --portable --rebuild"
    if run.returncode in (-signal.SIGILL, -signal.SIGSEGV, -signal.SIGBUS):
        name = signal.Signals(-run.returncode).name
        raise InstallError(f"The built llama.cpp crashes on this CPU ({name}).", portable)
    words = run.stderr.strip().splitlines()
    raise InstallError(f"The built llama.cpp failed its self-test: {words[-1] if words else run.returncode}.", portable)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
