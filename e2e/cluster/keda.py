"""KEDA in pods, for the test that scales by it: its two programs, built once, and its own manifests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cluster import addons, layout, programs
from cluster.artefact import obtain
from cluster.console import run
from cluster.golang import ENVIRONMENT, go
from cluster.layout import STATE
from cluster.programs import KEDA, KEDA_ADAPTER, Program

NAMESPACE = "keda"
MODULE = "github.com/kedacore/keda/v2"
DEPLOYMENTS = {"ghcr.io/kedacore/keda": KEDA, "ghcr.io/kedacore/keda-metrics-apiserver": KEDA_ADAPTER}
"""The images that its manifests name, and what is in them."""
API = "v1beta1.external.metrics.k8s.io"
USER = 65532
"""As in its own images; one of a single program names none."""


@contextmanager
def installed() -> Iterator[None]:
    """It runs in the bare provider's cluster, and is gone after the block. The first time its build takes long."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        shutil.copytree(manifests(), folder / "config")
        (folder / "kustomization.yaml").write_text(json.dumps(kustomization()))  # JSON is YAML
        kubectl("apply", "--server-side", "-k", folder)
        try:
            for name in ("keda-operator", "keda-metrics-apiserver"):
                kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=240s")
            kubectl("wait", f"apiservice/{API}", "--for=condition=Available", "--timeout=120s")
            yield
        finally:
            kubectl(
                "delete", "scaledobjects", "--all", "-A", "--timeout=60s"
            )  # they have finalizers, which are its own
            kubectl("delete", "-k", folder, "--ignore-not-found", "--timeout=120s")


def manifests() -> Path:
    """Its module's folder `config`; the cache of modules may go."""

    def make(folder: Path, log: Path) -> None:
        words = (go(), "list", "-m", "-f", "{{.Dir}}", MODULE)
        module = Path(run(*words, cwd=KEDA.folder, env=ENVIRONMENT).strip())
        shutil.copytree(module / "config", folder / "config", copy_function=shutil.copyfile)

    return obtain(f"keda-manifests-{layout.digest_of(KEDA.folder / 'go.sum')}", "KEDA's manifests", make) / "config"


def kustomization() -> dict[str, Any]:
    """Its smallest installation, without webhooks, with our builds of its programs."""
    user = {"op": "add", "path": "/spec/template/spec/securityContext/runAsUser", "value": USER}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["config/minimal"],
        "images": [{"name": name, **_image(program)} for name, program in DEPLOYMENTS.items()],
        "patches": [{"target": {"kind": "Deployment"}, "patch": json.dumps([user])}],
    }


def kubectl(*words: str | Path) -> None:
    """On the cluster, as its administrator."""
    run(programs.kube() / "kubectl", f"--kubeconfig={STATE.kubeconfig}", *words)


def _image(program: Program) -> dict[str, str]:
    name, _, tag = addons.static(programs.build(program), program.key, [f"/{program.name}"]).partition(":")
    return {"newName": f"{layout.REGISTRY}/{name}", "newTag": tag}
