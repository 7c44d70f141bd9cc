"""Programs from a package of the distribution that is not installed: it would bring a service of the machine's own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cluster.artefact import alone, machine
from cluster.console import ClusterError, run_logged

# Everything is written where the cache is, which may not be open to apt's own user.
_APT = ("apt-get", "-q", "-o", "APT::Sandbox::User=root")


def programs(package: str, names: Sequence[str], folder: Path, log: Path) -> None:
    """Put these programs of a package into a folder, without root where apt knows its packages. ClusterError."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ClusterError(
            f"{' and '.join(names)} come with Debian's package {package}, and there is no apt-get here.",
            "Install them, so that they are on PATH.",
        )
    _download(package, folder, log)
    (archive,) = folder.glob("*.deb")
    tree = folder / "package"
    run_logged(log, "dpkg-deb", "--extract", archive, tree)
    for name in names:
        (tree / "usr/bin" / name).rename(folder / name)
    archive.unlink()
    shutil.rmtree(tree)


def unpacked(package: str, folder: Path, log: Path) -> None:
    """The tree of a package and of all that it needs and that is not installed here, in a folder. ClusterError."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ClusterError(f"Debian's package {package} is wanted, and there is no apt-get here.", "Install it.")
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    # Nothing is installed: so neither root nor the locks of those who install are needed.
    options = ("-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1", "--no-install-recommends")
    _with_packages(log, (*_APT, "--yes", "--download-only", *options, "install", package), folder)
    for archive in archives.glob("*.deb"):
        run_logged(log, "dpkg-deb", "--extract", archive, folder)
    shutil.rmtree(archives)


def _download(package: str, folder: Path, log: Path) -> None:
    _with_packages(log, (*_APT, "download", package), folder)


def _with_packages(log: Path, command: Sequence[str], folder: Path) -> None:
    try:
        run_logged(log, *command, cwd=folder)
    except ClusterError:  # on a new machine apt knows no packages yet, on an old one those of long ago
        with alone("packages", machine()):
            run_logged(log, *_APT, "update")
        run_logged(log, *command, cwd=folder)
