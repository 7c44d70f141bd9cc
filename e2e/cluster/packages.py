"""The distribution's packages that a bare cluster and image builds run on: installed when missing, else silent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from cluster.artefact import alone, machine
from cluster.console import ClusterError, run, stage

PACKAGES = {
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/share/debootstrap/scripts": "debootstrap",
    "buildah": "buildah",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "docker-registry": "docker-registry",
    "gcc": "gcc",
    "git": "git",
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "runc": "runc",
    "sysctl": "procps",
}
"""A program on PATH (or a file), and the Debian package that brings it."""
FOR_IMAGES = ("buildah", "ca-certificates", "debootstrap", "git", "mount", "util-linux")
"""What building images takes, whoever runs the cluster."""
SERVICES = ("containerd", "docker-registry")
"""Packages that start a service of the machine's own. The cluster starts its own, on its own addresses."""


def missing() -> list[str]:
    """Packages of which the program is not here, sorted."""
    return sorted({package for thing, package in PACKAGES.items() if not _present(thing)})


def install(needed: Collection[str] = ()) -> None:
    """Install what is missing of the needed packages (default: of all) with apt-get. ClusterError where that can't be.

    Nothing is asked of the network when nothing is missing.
    """
    if _wanted(needed):
        with alone("packages", machine()):
            _install(_wanted(needed))


def _wanted(needed: Collection[str]) -> list[str]:
    return [package for package in missing() if package in needed or not needed]


def _install(wanted: list[str]) -> None:
    if not wanted:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(
            f"These packages of Debian are missing: {' '.join(wanted)}.",
            "Run it as root on Debian 12, or install them; E2E_PROVIDER=kind or existing needs fewer.",
        )
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300")
    with stage(f"install {' '.join(wanted)}"):
        run(*apt, "update", env=quiet)
        run(*apt, "install", "-y", "--no-install-recommends", *wanted, env=quiet)
        started = [name for name in SERVICES if name in wanted]
        if started and Path("/run/systemd/system").is_dir():
            run("systemctl", "disable", "--now", *started)


def _present(thing: str) -> bool:
    return Path(thing).exists() if thing.startswith("/") else shutil.which(thing) is not None
