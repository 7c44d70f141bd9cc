"""The base image from the distribution's bootstrap: Debian's minimal system and Python, as a reproducible archive."""

from __future__ import annotations

import shutil
from pathlib import Path

from cluster import buildah
from cluster.artefact import obtain
from cluster.console import ClusterError, run, run_logged
from cluster.layout import digest_of

SUITE = "bookworm"
INCLUDE = ("ca-certificates", "python3", "libgomp1", "libstdc++6")
"""What both images run on: Python, and the C++ and OpenMP libraries of llama.cpp."""
LEFT_OUT = (
    "var/cache/apt", "var/lib/apt/lists", "var/log", "var/cache/ldconfig", "usr/share/doc", "usr/share/man",
    "usr/share/locale", "usr/share/info", "tmp", "var/tmp", "dev", "proc", "sys", "run",
)  # fmt: skip
"""Emptied: caches, logs with times in them, documentation."""
KEY = digest_of(SUITE, *INCLUDE, *LEFT_OUT)
IMAGE = f"llmservice-base:{SUITE}-{KEY}"


def archive() -> Path:
    """The tar archive, bootstrapped once; every image built from it has the same layers under it."""
    return obtain(f"base-{KEY}", f"bootstrap the base image ({SUITE})", _make) / "base.tar"


def import_base() -> str:
    """The base as an image in buildah's storage; its name."""
    buildah.import_tree(archive(), IMAGE)
    return IMAGE


def _make(folder: Path, log: Path) -> None:
    root = folder / "root"
    _bootstrap(root, log)
    _pack(root, folder / "base.tar")
    shutil.rmtree(root)


def _bootstrap(root: Path, log: Path) -> None:
    # What debootstrap mounts is seen by it alone, and is gone when it is, however it ends.
    run_logged(
        log,
        "unshare",
        "--mount",
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(INCLUDE)}",
        SUITE,
        root,
        mirror(),
    )
    for name in LEFT_OUT:
        folder = root / name
        for entry in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    for compiled in root.glob("usr/**/__pycache__"):
        shutil.rmtree(compiled)


def _pack(root: Path, tar: Path) -> None:
    """Sorted names, one time, numeric owners: the archive's bytes depend on the files alone."""
    fixed = ("--sort=name", f"--mtime=@{buildah.EPOCH}", "--numeric-owner", "--format=gnu")
    run("tar", *fixed, "-C", root, "-cf", tar, ".")


def mirror() -> str:
    """The machine's own Debian mirror, from apt's configuration. It is a build argument and stays out of the images."""
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages")
    for line in listed.splitlines():
        address, _, suite = line.strip().rpartition(" ")
        if suite == SUITE and address.startswith("http"):
            return address
    raise ClusterError(
        f"apt knows no mirror of Debian {SUITE} here, so there is no base image.",
        "Build on Debian 12, or use E2E_PROVIDER=existing with images of your own.",
    )
