"""What building needs from the machine, and which package of the distribution brings it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from llmservice_runtime.install.errors import InstallError

_COMPILERS = {
    "debian": "apt-get install build-essential",
    "fedora": "dnf install gcc gcc-c++",
    "rhel": "dnf install gcc gcc-c++",
    "suse": "zypper install gcc gcc-c++",
    "arch": "pacman -S base-devel",
    "alpine": "apk add build-base",
}
_HEADERS = {
    "debian": "apt-get install python3-dev",
    "fedora": "dnf install python3-devel",
    "rhel": "dnf install python3-devel",
    "suse": "zypper install python3-devel",
    "alpine": "apk add python3-dev",
}
_LIBRARIES = {
    "libnuma.so.1": {
        "debian": "apt-get install libnuma1",
        "fedora": "dnf install numactl-libs",
        "rhel": "dnf install numactl-libs",
        "suse": "zypper install libnuma1",
        "arch": "pacman -S numactl",
        "alpine": "apk add numactl",
    }
}
_VENV = {"debian": "apt-get install python3-venv"}


def require_compiler(
    what: str, environ: Mapping[str, str] | None = None, os_release: str | None = None, why: str = "built here"
) -> None:
    """InstallError naming the compiler that `what` is missing and the package that has it. CC and CXX are honoured."""
    env = os.environ if environ is None else environ
    path = env.get("PATH")
    missing = [
        language
        for language, variable, names in (
            ("C", "CC", ("cc", "gcc", "clang")),
            ("C++", "CXX", ("c++", "g++", "clang++")),
        )
        if not any(shutil.which(name, path=path) for name in ((env[variable],) if env.get(variable) else names))
    ]
    if missing:
        raise InstallError(
            f"{what} is {why}, but there is no {' and no '.join(missing)} compiler.",
            how_to_get(_COMPILERS, "gcc and g++", os_release),
        )


def require_headers(what: str, folder: Path | None = None, os_release: str | None = None) -> None:
    """InstallError when Python's headers, which `what` compiles against, are not where this Python has them."""
    place = folder or Path(sysconfig.get_path("include"))
    if not (place / "Python.h").is_file():
        raise InstallError(
            f"{what} compiles kernels when it loads a model, but Python's headers are not in {place}.",
            how_to_get(_HEADERS, "the headers of this Python", os_release),
        )


def require_libraries(what: str, names: Iterable[str], os_release: str | None = None) -> None:
    """InstallError naming the first library of the system that `what` loads and that is not here, and its package."""
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError as error:
            remedy = how_to_get(_LIBRARIES.get(name, {}), f"the library {name}", os_release)
            raise InstallError(f"{what} loads {name}, which is not on this machine.", remedy) from error


def require_venv(os_release: str | None = None) -> None:
    """InstallError when this Python can't make virtual environments (Debian has ensurepip in another package)."""
    if any(importlib.util.find_spec(name) is None for name in ("venv", "ensurepip")):
        raise InstallError("This Python has no venv module.", how_to_get(_VENV, "Python's venv module", os_release))


def how_to_get(packages: Mapping[str, str], what: str, os_release: str | None = None) -> str:
    """The command of this distribution, else what it has to bring. `packages`: distribution -> command."""
    for distribution in _distributions(os_release):
        if distribution in packages:
            return f"Install it with: {packages[distribution]}"
    return f"Install {what} with your distribution's package manager."


def _distributions(os_release: str | None) -> list[str]:
    """ID, then what it is like."""
    if os_release is None:
        try:
            os_release = Path("/etc/os-release").read_text()
        except OSError:
            return []
    fields = dict(line.partition("=")[::2] for line in os_release.splitlines())
    return [name.strip('"') for key in ("ID", "ID_LIKE") for name in fields.get(key, "").strip('"').split()]
