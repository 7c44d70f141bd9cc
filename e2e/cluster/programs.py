"""The programs: Go modules built once and cached by what they are made from, and the distribution's packages."""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster.console import ClusterError, run, run_logged, stage
from cluster.layout import HERE, cache, digest_of

KUBERNETES = "1.34.4"
_VERSION = "k8s.io/component-base/version"
KUBE_PROGRAMS = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
)  # fmt: skip
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "buildah": "buildah",
    "docker-registry": "docker-registry",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "debootstrap": "debootstrap",
    "nsenter": "util-linux",
    "openssl": "openssl",
}
"""A program (or file) that the bare provider needs, and the Debian package that brings it."""


@dataclass(frozen=True, slots=True)
class Program:
    """A Go program: folder of its module below go/, package to build, linker flags."""

    name: str
    package: str = "."
    flags: str = "-s -w"


KUBE = Program(
    "kube",
    # Without a version the API server says v0.0.0, and clients take it for an ancient one.
    flags=f"-s -w -X {_VERSION}.gitVersion=v{KUBERNETES} -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=34",
)
COREDNS = Program("coredns")
LOCAL_PATH = Program("local-path", "github.com/rancher/local-path-provisioner")
HELM = Program("helm", "helm.sh/helm/v3/cmd/helm")


def kube() -> Path:
    """The folder with etcd and every Kubernetes program by name."""
    folder = build(KUBE).parent
    for name in KUBE_PROGRAMS:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to("kube")
    return folder


def build(program: Program) -> Path:
    """The program from the cache, or built now (a second caller waits); a half-built one is never taken."""
    module = HERE / "go" / program.name
    sources = [file for name in ("go.mod", "go.sum", "main.go") if (file := module / name).exists()]
    folder = cache() / f"{program.name}-{digest_of(program.package, program.flags, *sources)}"
    built = folder / program.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            with stage(f"build {program.name} from its Go module"):
                partial = folder / f".{program.name}"
                command: list[str | Path] = [
                    "build",
                    "-trimpath",
                    "-ldflags",
                    program.flags,
                    "-o",
                    partial,
                    program.package,
                ]
                run_logged(folder / "build.log", go(), *command, cwd=module, env={"CGO_ENABLED": "0"})
                partial.replace(built)
    return built


def go() -> str:
    """Go from PATH; ClusterError without one."""
    if found := shutil.which("go"):
        return found
    raise ClusterError("The cluster's programs are built with Go, and there is none.", "Install Go 1.24 or newer.")


def install_packages() -> None:
    """Install what is missing with apt-get; nothing is asked of the network when nothing is."""
    missing = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(
            f"The bare provider needs these packages: {' '.join(missing)}.",
            "Install them, or use E2E_PROVIDER=kind with a Docker or Podman engine.",
        )
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with stage(f"install {' '.join(missing)}"):
        run("apt-get", "update", "-q", env=quiet)
        run("apt-get", "install", "-y", "-q", "--no-install-recommends", *missing, env=quiet)
