"""Labels and annotations of an LLMService reach its children: a team's own, never a tool's."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from core_world import CONFIG, World  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.labels import REVISION
from llmservice_operator.facts.config import Monitoring
from llmservice_operator.facts.passed_on import owner_of

CLAIM = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "1Gi"}}
MONITORED = dataclasses.replace(CONFIG, monitoring=Monitoring())
LABELS = {"team": "red", "acme.example/cost-centre": "7", "app.kubernetes.io/part-of": "shop"}
TOOLS = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "meta.helm.sh/release-name",
    "helm.sh/chart",
    "app.kubernetes.io/instance",
    "argocd.argoproj.io/tracking-id",
    "argocd.argoproj.io/instance",
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/namespace",
    "fluxcd.io/sync-checksum",
    "applyset.kubernetes.io/part-of",
    "addonmanager.kubernetes.io/mode",
    "config.k8s.io/owning-inventory",
    "cli-utils.sigs.k8s.io/inventory-id",
    "kapp.k14s.io/app",
    "objectset.rio.cattle.io/hash",
    "llmservice.dev/revision",
    "pod-template-hash",
    "batch.kubernetes.io/job-name",
    "io.kubernetes.cri-o.Devices",
    "container.apparmor.security.beta.kubernetes.io/runtime",
    "kluctl.io/deployment-item-dir",
    "fleet.cattle.io/bundle-id",
    "io.cattle.field/appId",
    "dev.okteto.com/deployed-by",
    "internal.kpt.dev/upstream-identifier",
    "config.k8s.io/id",
    "olm.owner",
    "olm.owner.namespace",
    "operators.coreos.com/llm.default",
    "eks.amazonaws.com/role-arn",
    "iam.gke.io/gcp-service-account",
    "azure.workload.identity/client-id",
    "cpu-quota.crio.io",
    "io.katacontainers.config.hypervisor.path",
]


def label(world: World, **labels: str | None) -> None:
    """A label edit: no new generation."""
    live = world.service["metadata"].setdefault("labels", {})
    live.update(labels)
    world.service["metadata"]["labels"] = {name: value for name, value in live.items() if value is not None}


def test_every_child_and_every_pod_has_the_labels_and_annotations_of_its_service() -> None:
    world = World(MONITORED).edit(cache=CLAIM)
    label(world, **LABELS)
    world.service["metadata"]["annotations"] = {"acme.example/contact": "red@acme.example"}
    world.pass_()
    seen = list(world.of("Job"))
    world.served()
    seen += world.objects.values()
    kinds = {child["kind"] for child in seen}
    assert kinds >= {"Deployment", "Service", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor"}
    assert kinds >= {"Job", "ControllerRevision", "PersistentVolumeClaim"}
    templates = [child["spec"]["template"] for child in seen if child["kind"] in ("Job", "Deployment")]
    for found in [*(child for child in seen if child["kind"] != "Pod"), *templates]:
        assert found["metadata"]["labels"].items() >= LABELS.items(), found
        passed = {} if found.get("kind") == "ServiceAccount" else {"acme.example/contact": "red@acme.example"}
        assert found["metadata"].get("annotations", {}).items() >= passed.items(), found
    assert "annotations" not in world.get("ServiceAccount", "demo-llm")["metadata"]  # clouds give rights by these


def test_a_label_edit_rolls_no_pod_and_pods_get_it_with_their_next_roll() -> None:
    world = World().served()
    before = world.get("Deployment")["spec"]["template"]
    label(world, team="red")
    assert {"Deployment demo", "Service demo"} <= set(world.pass_())
    assert world.get("Deployment")["metadata"]["labels"]["team"] == "red"
    assert world.get("Deployment")["spec"]["template"] == before
    label(world, team=None)
    world.pass_()
    assert "team" not in world.get("Service")["metadata"]["labels"]
    label(world, team="blue")
    world.edit(contextTokens=512).served()
    after = world.get("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert (after["team"], after[REVISION] != before["metadata"]["labels"][REVISION]) == ("blue", True)


def pods(world: World) -> dict[str, str]:
    found: dict[str, str] = world.get("Deployment")["spec"]["template"]["metadata"]["labels"]
    return found


@pytest.mark.parametrize("cache", [{"type": "EmptyDir"}, CLAIM])
def test_an_earlier_spec_comes_back_with_the_labels_that_its_service_has_by_then(cache: dict[str, Any]) -> None:
    world = World().edit(cache=cache, contextTokens=1024).served()
    first = pods(world)
    label(world, team="red")
    world.pass_()
    assert pods(world) == first
    world.edit(contextTokens=512).pass_()
    world.rolled_out().pass_()
    assert pods(world)["team"] == "red"
    world.edit(contextTokens=1024).pass_()
    assert pods(world)["team"] == "red"
    world.rolled_out().pass_()
    back = pods(world)
    label(world, team=None)
    world.pass_()
    assert pods(world) == back  # a label edit alone rolls nothing, here neither
    world.edit(contextTokens=512).pass_()
    assert "team" not in pods(world)
    world.rolled_out().pass_()
    settled = world.service["status"]["currentRevision"], len(world.of("ControllerRevision"))
    for _ in range(3):
        assert "Deployment demo" not in world.wait(60).pass_()
    assert (world.service["status"]["currentRevision"], len(world.of("ControllerRevision"))) == settled


def test_an_earlier_spec_comes_back_as_it_was_when_no_label_changed() -> None:
    world = World().edit(contextTokens=1024, podTemplate={"metadata": {"labels": {"a": "b"}}}).served()
    first = pods(world)
    world.edit(contextTokens=512).pass_()
    world.edit(contextTokens=1024).pass_()
    assert pods(world) == first


def test_the_templates_own_labels_win_for_pods_and_the_operators_own_for_everything() -> None:
    world = World()
    label(world, team="red", **{"app.kubernetes.io/managed-by": "Helm"})
    world.edit(podTemplate={"metadata": {"labels": {"team": "blue"}}}).served()
    deployment = world.get("Deployment")
    assert deployment["metadata"]["labels"]["team"] == "red"
    assert deployment["spec"]["template"]["metadata"]["labels"]["team"] == "blue"
    assert deployment["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "llmservice-operator"


def owner(labels: dict[str, str], annotations: dict[str, str], *kept: str) -> Any:
    metadata = {"name": "a", "namespace": "b", "uid": "u", "labels": labels, "annotations": annotations}
    return owner_of({"metadata": metadata}, dataclasses.replace(CONFIG, not_passed_on=kept))


@pytest.mark.parametrize("name", TOOLS)
def test_what_a_tool_or_kubernetes_reads_stays_on_the_service(name: str) -> None:
    made = owner({name: "x"}, {name: "x"})
    assert (made.passed_labels, made.passed_annotations) == ((), ())


def test_an_installation_keeps_more_from_children() -> None:
    made = owner({"argo": "x", "acme.example/a": "1", "team": "red"}, {}, "argo", "acme.example/*")
    assert made.passed_labels == (("team", "red"),)


def test_what_is_too_large_stops_nothing_else_and_is_said() -> None:
    world = World()
    world.service["metadata"]["annotations"] = {"acme.example/big": "x" * 40_000, "acme.example/contact": "red"}
    world.served()
    template = world.get("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert (template["acme.example/contact"], "acme.example/big" in template) == ("red", False)
    assert "acme.example/big" in " ".join(world.service["status"]["plan"]["notes"])


TEXT = st.text(max_size=40) | st.integers(1, 9).map(lambda thousands: "é" * 1000 * thousands)


@given(st.dictionaries(st.text(max_size=40), TEXT, max_size=100))
def test_what_is_passed_on_is_bounded_and_is_what_was_there(entries: dict[str, str]) -> None:
    passed = owner({}, entries).passed_annotations
    assert len(passed) <= 64
    assert sum(len(f"{name}{value}".encode()) for name, value in passed) <= 32_768
    assert all(entries[name] == value for name, value in passed)
    assert list(passed) == sorted(passed)
