"""The children: names that stay DNS labels, pods with few rights, selectors that catch replicas and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.v1alpha1 import EndpointAccess, LLMServiceSpec
from llmservice_operator.children.disruption_budget import disruption_budget
from llmservice_operator.children.model_access import model_access
from llmservice_operator.children.network_policy import network_policy
from llmservice_operator.children.prepare_job import job_name, prepare_job
from llmservice_operator.children.revision_name import revision_name
from llmservice_operator.children.service import service
from llmservice_operator.children.service_account import account_name, service_account
from llmservice_operator.facts.config import Gateway, OperatorConfig, RuntimeImage
from llmservice_operator.facts.nodes import NodeKind, node_kinds
from llmservice_operator.facts.owner import Owner
from llmservice_operator.facts.quantity import parse_quantity
from llmservice_runtime.contract.engines import EngineType

LONGEST = Owner("n" * 40, "apps", "u-1")
CONFIG = OperatorConfig((RuntimeImage("r:1", (EngineType.LLAMA_CPP,)),), "llm", gateway_namespace="gate")
NODE = {"type": "HostPath", "hostPath": {"path": "/var/lib/models"}}
CLAIM = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}}


def spec(uri: str = "hf://a/b", model: dict[str, Any] | None = None, **fields: Any) -> LLMServiceSpec:
    return LLMServiceSpec.model_validate({"model": {"uri": uri, **(model or {})}, **fields})


def test_names_stay_dns_labels_for_the_longest_service_name() -> None:
    made = [job_name(LONGEST, spec()), revision_name(LONGEST, spec()), account_name(LONGEST, spec())]
    assert max(len(name) for name in made) <= 63


def test_replicas_and_defaults_change_no_name() -> None:
    same = spec(replicas=7, task="Auto", cache={"type": "EmptyDir"})
    assert revision_name(LONGEST, same) == revision_name(LONGEST, spec())
    assert job_name(LONGEST, spec(contextTokens=512)) == job_name(LONGEST, spec())
    assert job_name(LONGEST, spec(model={"revision": "v2"})) != job_name(LONGEST, spec())


def test_what_is_in_no_pod_changes_no_name() -> None:
    def made(**body: Any) -> LLMServiceSpec:
        return spec(cache={"type": "PersistentVolumeClaim", "persistentVolumeClaim": body})

    assert revision_name(LONGEST, made(size="1Gi")) == revision_name(LONGEST, made(size="2Gi", storageClassName="fast"))
    assert revision_name(LONGEST, made(size="1Gi")) != revision_name(LONGEST, made(claimName="a"))
    follow: dict[str, Any] = {"rollout": {"upgradePolicy": "Follow"}}
    assert revision_name(LONGEST, spec(**follow)) == revision_name(LONGEST, spec())
    prepare: dict[str, Any] = {"prepare": {"resources": {"limits": {"memory": "1Gi"}}}}
    assert revision_name(LONGEST, spec(**prepare)) != revision_name(LONGEST, spec()), "replicas download with it"
    assert revision_name(LONGEST, spec(cache=CLAIM, **prepare)) == revision_name(LONGEST, spec(cache=CLAIM))


def test_a_service_has_every_family_that_the_cluster_has() -> None:
    assert service(LONGEST)["spec"]["ipFamilyPolicy"] == "PreferDualStack"


def test_selectors_do_not_catch_the_pods_of_the_job() -> None:
    labels = prepare_job(LONGEST, spec(), CONFIG, "a")["spec"]["template"]["metadata"]["labels"]
    for child, path in (
        (service(LONGEST), ("selector",)),
        (disruption_budget(LONGEST), ("selector", "matchLabels")),
        (network_policy(LONGEST, EndpointAccess.DIRECT, CONFIG), ("podSelector", "matchLabels")),
    ):
        found = child["spec"]
        for step in path:
            found = found[step]
        assert not found.items() <= labels.items()


@pytest.mark.parametrize("cache", [{}, CLAIM, NODE])
def test_the_job_has_few_rights_and_the_credentials_only_as_files(cache: dict[str, Any]) -> None:
    wanted = spec(model={"secretRef": {"name": "token"}}, cache=cache)
    pod = prepare_job(LONGEST, wanted, CONFIG, "someone")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "someone"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert "--secret=token" in container["args"]
        assert any(mount["mountPath"] == "/secrets/token" for mount in container["volumeMounts"])
        assert "--allow-private" not in container["args"]


@pytest.mark.parametrize(
    ("uri", "cache", "read", "remote", "shared"),
    [
        ("file:///demo/m.gguf", {}, "file:///demo/m.gguf", False, False),
        ("file:///demo/m.gguf", CLAIM, "file:///demo/m.gguf", False, False),
        ("pvc://models/a/m.gguf", {}, "file:///model/a/m.gguf", False, False),
        ("hf://a/b", {}, "hf://a/b", True, False),
        ("hf://a/b", CLAIM, "hf://a/b", True, True),
        ("hf://a/b", NODE, "hf://a/b", True, False),
        ("file:///demo/m.gguf", NODE, "file:///demo/m.gguf", False, False),
    ],
)
def test_where_the_model_is_read(uri: str, cache: dict[str, Any], read: str, remote: bool, shared: bool) -> None:
    access = model_access(LONGEST, spec(uri, cache=cache))
    assert (access.uri, access.remote, access.shared) == (read, remote, shared)


def test_a_named_account_is_not_made() -> None:
    assert service_account(LONGEST, spec(serviceAccountName="mine")) is None


GATEWAY = dataclasses.replace(CONFIG, gateway=Gateway("llmservice-gateway", (("app", "gateway"),)))


def test_with_access_by_the_gateway_nobody_else_may_send_requests() -> None:
    policy = network_policy(LONGEST, EndpointAccess.GATEWAY, GATEWAY)
    requests, watchers = policy["spec"]["ingress"]
    gateways = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "llm"}},
        "podSelector": {"matchLabels": {"app": "gateway"}},
    }
    assert requests["from"] == [gateways]
    assert watchers == network_policy(LONGEST, EndpointAccess.DIRECT, CONFIG)["spec"]["ingress"][1]
    direct = network_policy(LONGEST, EndpointAccess.DIRECT, GATEWAY)["spec"]["ingress"][0]["from"]
    assert direct[0] == {"podSelector": {}} and direct[-1] == gateways


def test_the_gateway_and_the_own_namespace_may_send_requests() -> None:
    requests, watchers = network_policy(LONGEST, EndpointAccess.DIRECT, CONFIG)["spec"]["ingress"]
    assert requests["from"][0] == {"podSelector": {}}
    assert requests["from"][1]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "gate"}
    assert [peer["namespaceSelector"]["matchLabels"] for peer in watchers["from"]] == [
        {"kubernetes.io/metadata.name": "llm"}
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", 0.5), ("2", 2), ("1.5Gi", 1.5 * 2**30), ("3k", 3000), ("2E", 2 * 10**18), ("2e3", 2000), (4, 4)],
)
def test_quantities(text: str, number: float) -> None:
    assert parse_quantity(text) == number


@given(st.text(max_size=8))
def test_what_is_no_quantity_is_refused_with_a_value_error(text: str) -> None:
    try:
        assert parse_quantity(text).is_finite()
    except ValueError as error:
        assert "is not a quantity" in str(error)


def test_nodes_that_are_alike_are_one_kind() -> None:
    def node(memory: str, **labels: str) -> dict[str, Any]:
        resources = {"cpu": "7910m", "memory": memory, "pods": "110", "hugepages-2Mi": "0", "nvidia.com/gpu": "2"}
        return {"metadata": {"labels": labels}, "status": {"allocatable": resources}}

    label = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}
    kinds = node_kinds([node("63Gi", **label), node("66060300Ki", **label), node("64600Mi", **label)])
    resources = (("nvidia.com/gpu", 2),)
    product = "nvidia.com/gpu.product"
    assert kinds == (NodeKind(7, 63 << 30, "amd64", resources, "NVIDIA-L4", product, 23034 << 20),)
