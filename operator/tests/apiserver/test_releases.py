"""What the docs say of Helm releases: an upgrade with the values of then, and a second release beside the CRD's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import yaml
from test_operator_process import ROOT, own_server  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import Kind
from llmservice_kube.login import login
from llmservice_operator.control.installation import read_installation

CHART = ROOT / "charts" / "llmservice"
CRDS = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
LATER = ("prepareResources", "podFields", "allow", "notPassedOn", "hostPaths", "nodeAccess")
"""Values of `runtime` that an earlier chart did not have."""


def earlier_chart(folder: Path) -> Path:
    shutil.copytree(CHART, folder)
    values = yaml.safe_load((folder / "values.yaml").read_text())
    values["runtime"] = {name: value for name, value in values["runtime"].items() if name not in LATER}
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    return folder


async def test_releases_are_upgraded_with_the_values_of_then_and_share_one_crd(tmp_path: Path) -> None:
    from cluster import programs

    program, before = programs.helm(), earlier_chart(tmp_path / "earlier")
    with own_server(tmp_path) as kubeconfig:

        def helm(*arguments: str) -> str:
            """What it says when it fails; empty when it does not."""
            command = [str(program), *arguments, f"--kubeconfig={kubeconfig}"]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            return ended.stderr if ended.returncode else ""

        into_a, into_b = ("-n=sys-a", "--create-namespace"), ("-n=sys-b", "--create-namespace")
        assert helm("install", "a", str(before), *into_a, "--set=runtime.privateSources=true") == ""
        async with Client(await login(str(kubeconfig))) as client:
            for way in ("--reuse-values", "--reset-then-reuse-values"):
                assert helm("upgrade", "a", str(CHART), *into_a, way) == ""
                written = await client.get(CONFIG_MAP, "sys-a", "a")
                assert written is not None
                (tmp_path / "a.yaml").write_text(written["data"]["installation.yaml"])
                read = read_installation(tmp_path / "a.yaml")
                assert (read.private_sources, read.allow.secrets, read.pod_fields) == (True, ("*",), ())
            assert "invalid ownership metadata" in helm("install", "b", str(CHART), *into_b)
            assert helm("install", "b", str(CHART), *into_b, "--set=crds.enabled=false") == ""
            assert helm("uninstall", "a", "-n=sys-a") == ""
            path = CRDS.path(None, "llmservices.llmservice.dev")
            to_b = {"meta.helm.sh/release-name": "b", "meta.helm.sh/release-namespace": "sys-b"}
            await client.send("patch", CRDS, path, {}, {"metadata": {"annotations": to_b}})
            assert helm("upgrade", "b", str(CHART), *into_b[:1], "--set=crds.enabled=true") == ""
