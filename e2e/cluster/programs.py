"""The programs: Go modules built once and cached by what they are made from."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path

from cluster.console import run_logged, stage
from cluster.golang import ENVIRONMENT, go
from cluster.layout import HERE, cache, digest_of

KUBERNETES = "1.34.4"
_VERSION = "k8s.io/component-base/version"
KUBE_PROGRAMS = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
)  # fmt: skip


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
                run_logged(
                    folder / "build.log", go(), "build", "-trimpath", "-buildvcs=false", "-ldflags", program.flags,
                    "-o", partial, program.package, cwd=module, env=ENVIRONMENT,
                )  # fmt: skip
                partial.replace(built)
    return built
