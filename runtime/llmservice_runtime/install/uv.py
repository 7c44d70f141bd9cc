"""uv, which fills environments of some GB: it fetches side by side and links files from its cache instead of copying.

It is fetched when it is needed first, so that those who install llama.cpp alone are spared it.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.lockfile import split_lock
from llmservice_runtime.install.progress import Progress, ProgressLine
from llmservice_runtime.install.run import run_logged
from llmservice_runtime.install.tools import require_venv
from llmservice_runtime.install.wheel import exclusive

LOCK = Path(__file__).parent / "uv.lock"
OFFLINE = "Check the network and the proxy (HTTPS_PROXY, pip's configuration), then repeat: what was fetched is kept."
SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}
"""Of pip -> what uv calls it: who has told pip where the packages are need not say it twice."""

_SIZED = re.compile(r"^\s*Downloading (\S+) \(([\d.]+)([KMG])iB\)")
_FETCHED = re.compile(r"^\s*Downloaded (\S+)")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(slots=True)
class Fetching(ProgressLine):
    """Progress by what uv says it has fetched, of `total` bytes."""

    total: int = 0
    _sizes: dict[str, float] = field(default_factory=dict)
    _got: float = 0.0

    def feed(self, line: str) -> None:
        """One line of uv's output."""
        if match := _SIZED.match(line):
            self._sizes[match[1]] = float(match[2]) * _UNITS[match[3]]
            self.advance(Progress(self._fraction(), f"fetching {match[1]}"))
        elif match := _FETCHED.match(line):
            self._got += self._sizes.pop(match[1], 0.0)
            left = max(self._sizes, key=lambda name: self._sizes[name], default="small packages")
            self.advance(Progress(self._fraction(), f"fetching {left}"))
        elif line.startswith("Prepared "):
            self.advance(Progress(1.0, "unpacked"))

    def _fraction(self) -> float | None:
        return min(0.99, self._got / self.total) if self.total else None


class Uv:
    """uv at its locked version, as pip is set up here. Its output goes to `log`."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._program = _obtain(log)
        self._environ = {**os.environ, **settings(os.environ, _pip_settings(self._program.with_name("python")))}

    @property
    def cache(self) -> Path:
        """Where it keeps what it fetched."""
        run = subprocess.run([self._program, "cache", "dir"], capture_output=True, text=True, check=True)
        return Path(run.stdout.strip())

    def has(self, lock: Path) -> bool:
        """Whether all of a lock can be installed without fetching anything."""
        with tempfile.TemporaryDirectory() as folder:
            command = self._command("--dry-run", "--offline", "--target", folder, "-r", str(lock))
            run = subprocess.run(command, env=self._environ, capture_output=True, text=True, check=False)
        return run.returncode == 0 and "Would download" not in run.stderr

    def install(self, into: Sequence[str], lock: Path, title: str, size: int, index: str = "") -> None:
        """Fill `into` (--target FOLDER or --python PROGRAM) from a lock; `index` instead of every other one."""
        environ = dict(self._environ)
        if index:
            environ = {name: value for name, value in environ.items() if name not in ("UV_INDEX", "UV_FIND_LINKS")}
            environ["UV_DEFAULT_INDEX"] = index
        progress = Fetching(title, total=size)
        command = self._command(*into, "-r", str(lock))
        try:
            run_logged(command, progress, self._log, environ, f"Installing {title}")
        except InstallError as error:
            raise InstallError(error.reason, f"{OFFLINE} {error.remedy}") from None
        progress.done("installed")

    def _command(self, *words: str) -> list[str]:
        python = [] if "--python" in words else ["--python", sys.executable]
        return [str(self._program), "pip", "install", "--no-deps", "--require-hashes", *python, *words]


def settings(environ: Mapping[str, str], of_pip: Mapping[str, str]) -> dict[str, str]:
    """What uv is told of pip's settings, where nobody has told it itself."""
    found: dict[str, str] = {}
    for name, variable in SETTINGS.items():
        if name in of_pip and variable not in environ:
            values = of_pip[name].split()
            found[variable] = ("," if name == "find-links" else " ").join(values)
    return found


def _pip_settings(python: Path) -> dict[str, str]:
    """The word of the pip beside uv for its files and variables; a variable counts most."""
    command = [str(python), "-m", "pip", "config", "list", "--disable-pip-version-check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for line in run.stdout.splitlines():
        name, _, value = line.partition("=")
        level, _, option = name.rpartition(".")
        if level in ("global", "install", ":env:"):
            found[option] = str(ast.literal_eval(value))
    return found


def _obtain(log: Path) -> Path:
    """The locked uv: of the environment this runs in, else of one that is made for it in the cache."""
    version = split_lock(LOCK.read_text(), "uv").version
    here = Path(sys.executable).parent / "uv"
    if _is(here, version):
        return here
    folder = cache_dir() / "tools" / f"uv-{version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_name(f".{folder.name}.lock"), "another process fetches uv; waiting for it"):
        program = folder / "bin" / "uv"
        if not _is(program, version):
            require_venv()
            progress = ProgressLine("uv, which fetches the rest")
            environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            make = [sys.executable, "-m", "venv", "--clear", str(folder)]
            run_logged(make, progress, log, environ, "Making an environment")
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--require-hashes", "-r", str(LOCK)]
            run_logged(pip, progress, log, environ, "Fetching uv")
            progress.done("installed")
    return program


def _is(program: Path, version: str) -> bool:
    if not program.exists():
        return False
    run = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return run.stdout.split()[1:2] == [version]
