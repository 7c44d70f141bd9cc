"""The engine's own wheel: built once per version and CPU, kept in a cache, published whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.engines.base.recipe import CUDA_COMPILER_ENV, OwnWheel
from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.lockfile import LockedBuild
from llmservice_runtime.install.progress import LOG_SECONDS, ProgressLine
from llmservice_runtime.install.run import run_logged
from llmservice_runtime.install.tools import require_compiler, require_venv

MAX_JOBS = 16
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class WheelPlan:
    """Which wheel this machine needs. `title` is the engine as people write it; `key` names the wheel in the cache."""

    title: str
    package: str
    build_lock: Path
    locked: LockedBuild
    flags: tuple[str, ...]
    machine: str
    toolkit: str = ""
    toolkit_lock: Path | None = None

    @property
    def fetched_toolkit(self) -> Path | None:
        """The lock of the toolkit that is fetched for the build; None = nothing is."""
        return None if os.environ.get(CUDA_COMPILER_ENV) else self.toolkit_lock

    @property
    def key(self) -> str:
        """Version, machine, a digest of flags and toolkit. The wheel holds no Python ABI, so every Python shares it."""
        toolkit = self.fetched_toolkit.read_bytes() if self.fetched_toolkit else b""
        digest = hashlib.sha256("\n".join(self.flags).encode() + toolkit).hexdigest()[:12]
        return f"{self.package}-{self.locked.version}-{self.machine}-{digest}"


def plan_wheel(title: str, wheel: OwnWheel, locked: LockedBuild, portable: bool = False) -> WheelPlan:
    """The wheel for this machine's CPU."""
    flags, machine = wheel.cmake_flags(portable), platform.machine()
    return WheelPlan(title, wheel.package, wheel.build_lock, locked, flags, machine, wheel.toolkit, wheel.toolkit_lock)


def default_wheel_cache(environ: Mapping[str, str] | None = None) -> Path:
    """`wheels` in the cache of this user."""
    return cache_dir(environ) / "wheels"


def cached_wheel(plan: WheelPlan, cache: Path) -> Path | None:
    """The built wheel, when the cache has it."""
    return next(iter(sorted((cache / plan.key).glob("*.whl"))), None)


def obtain_wheel(plan: WheelPlan, cache: Path, rebuild: bool = False) -> Path:
    """The wheel from the cache, or built now; a second process that wants the same one waits. InstallError."""
    from llmservice_runtime.install.toolkits import require_toolkit  # looks at GPUs, which who locks alone need not

    cache.mkdir(parents=True, exist_ok=True)
    with exclusive(cache / f".{plan.key}.lock", f"another process builds {plan.title}; waiting for it"):
        found = cached_wheel(plan, cache)
        if found is not None and not rebuild:
            return found
        require_venv()
        require_compiler(plan.title)
        require_toolkit(plan.toolkit, plan.title)
        for stale in cache.glob(f".build-{plan.key}-*"):  # of a build that was killed; nobody else holds the lock
            shutil.rmtree(stale)
        with tempfile.TemporaryDirectory(prefix=f".build-{plan.key}-", dir=cache) as folder:
            built = _build(plan, Path(folder), cache / f"{plan.key}.log")
            (cache / plan.key).mkdir(exist_ok=True)
            target = cache / plan.key / built.name
            built.replace(target)
        return target


@contextmanager
def exclusive(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock file; says `waiting`, now and then, while somebody else has it. The kernel frees a dead one's."""
    with path.open("w") as file:
        told = -LOG_SECONDS
        while not _taken(file.fileno()):
            if time.monotonic() - told >= LOG_SECONDS:
                told = time.monotonic()
                sys.stderr.write(waiting + "\n")
                sys.stderr.flush()
            time.sleep(LOOK_SECONDS)
        yield


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def compiler_cache() -> tuple[str, ...]:
    """CMake's options for ccache, where it is installed: then a second build takes seconds, not minutes."""
    if not (ccache := shutil.which("ccache")):
        return ()
    return tuple(f"-DCMAKE_{language}_COMPILER_LAUNCHER={ccache}" for language in ("C", "CXX"))


def _build(plan: WheelPlan, folder: Path, log: Path) -> Path:
    """Build in a folder of its own with locked build tools; the finished wheel lies in it."""
    from llmservice_runtime.install.toolkits import cuda_from, toolkit_environ

    log.write_text(f"{plan.key}\n{' '.join(plan.flags)}\n")
    progress = ProgressLine(plan.title)
    python = folder / "tools" / "bin" / "python"
    env = {
        **os.environ,
        **toolkit_environ(plan.toolkit),
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "CMAKE_ARGS": " ".join((*plan.flags, *compiler_cache())),
        # The folder has another name every time: what is compiled in it is known again by its place below.
        "CCACHE_BASEDIR": str(folder),
        "CCACHE_NOHASHDIR": "1",
        "CMAKE_BUILD_PARALLEL_LEVEL": str(min(MAX_JOBS, len(os.sched_getaffinity(0)))),
        "TMPDIR": str(folder),
    }
    source = folder / "source.lock"
    source.write_text(plan.locked.entry)
    pip = [str(python), "-m", "pip"]
    out = folder / "out"
    fetch = [*pip, "download", "-v", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes"]
    # In folders named by us: pip's own have random names, by which no compiler's cache would find anything again.
    place = f"--config-settings=build-dir={folder / 'build'}"
    wheel = [*pip, "wheel", "-v", "--no-deps", "--no-build-isolation", place]
    try:
        run_logged(
            [sys.executable, "-m", "venv", str(python.parent.parent)], progress, log, env, "Making a build folder"
        )
        run_logged(
            [*pip, "install", "--require-hashes", "-r", str(plan.build_lock)],
            progress,
            log,
            env,
            "Fetching build tools",
        )
        if lock := plan.fetched_toolkit:
            words = [*pip, "install", "--no-deps", "--require-hashes", "-r", str(lock)]
            run_logged(words, progress, log, env, f"Fetching what compiles {plan.title} for its device")
            env |= cuda_from(next(python.parents[1].glob("lib/python3*/site-packages")))
        run_logged([*fetch, "-r", str(source), "-d", str(folder)], progress, log, env, f"Fetching {plan.title}")
        shutil.unpack_archive(next(folder.glob("*.tar.gz")), folder / "source")
        tree = next((folder / "source").iterdir())
        run_logged([*wheel, str(tree), "-w", str(out)], progress, log, env, f"Building {plan.title}")
    except OSError as error:
        raise InstallError(f"Building {plan.title} failed: {error}.", f"The whole log is {log}.") from error
    wheels = list(out.glob("*.whl"))
    if len(wheels) != 1:
        raise InstallError(
            f"Building {plan.title} made {len(wheels)} wheels instead of one.", f"The whole log is {log}."
        )
    progress.done(f"built, {wheels[0].stat().st_size >> 20} MB")
    return wheels[0]
