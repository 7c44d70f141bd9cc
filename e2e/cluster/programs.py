"""The programs: Go modules built once and cached by what they are made from, and Prometheus from its package."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster import debian
from cluster.artefact import obtain
from cluster.console import run_logged
from cluster.golang import ENVIRONMENT, go
from cluster.layout import HERE, digest_of

KUBERNETES = "1.34.4"
_VERSION = "k8s.io/component-base/version"
KUBE_PROGRAMS = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Program:
    """A Go program: package to build, linker flags, other names it is called by; folder of its module below go/, when
    that has another name."""

    name: str
    package: str = "."
    flags: str = "-s -w"
    links: tuple[str, ...] = ()
    module: str = ""

    @property
    def folder(self) -> Path:
        """Where its module is."""
        return HERE / "go" / (self.module or self.name)

    @property
    def key(self) -> str:
        """What it is made from, as a name of the cache."""
        sources = [file for name in ("go.mod", "go.sum", "main.go") if (file := self.folder / name).exists()]
        return f"{self.name}-{digest_of(self.package, self.flags, *sources)}"


KUBE = Program(
    "kube",
    # Without a version the API server says v0.0.0, and clients take it for an ancient one.
    flags=f"-s -w -X {_VERSION}.gitVersion=v{KUBERNETES} -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=34",
    links=KUBE_PROGRAMS,
)
COREDNS = Program("coredns")
LOCAL_PATH = Program("local-path", "github.com/rancher/local-path-provisioner")
HELM = Program("helm", "helm.sh/helm/v3/cmd/helm")
METRICS_SERVER = Program("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server")
KEDA = Program("keda", "github.com/kedacore/keda/v2/cmd/operator")
KEDA_ADAPTER = Program("keda-adapter", "github.com/kedacore/keda/v2/cmd/adapter", module="keda")
PROMETHEUS = ("prometheus", "promtool")


def kube() -> Path:
    """The folder with etcd and every Kubernetes program by name."""
    return build(KUBE).parent


def helm() -> Path:
    """The one on PATH, else ours."""
    found = shutil.which("helm")
    return Path(found) if found else build(HELM)


def prometheus() -> Path:
    """The folder with prometheus and promtool: those on PATH, else from the distribution's package."""
    found = [shutil.which(name) for name in PROMETHEUS]
    if found[0] and found[1] and Path(found[0]).parent == Path(found[1]).parent:
        return Path(found[0]).parent
    return obtain(
        "prometheus-package",
        "Prometheus from its package",
        lambda folder, log: debian.programs("prometheus", PROMETHEUS, folder, log),
    )


def build(program: Program) -> Path:
    """The program from the cache, or built now."""

    def make(folder: Path, log: Path) -> None:
        run_logged(
            log, go(), "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", program.flags,
            "-o", folder / program.name, program.package, cwd=program.folder, env=ENVIRONMENT,
        )  # fmt: skip
        for name in program.links:
            (folder / name).symlink_to(program.name)

    return obtain(program.key, f"build {program.name} from its Go module", make) / program.name
