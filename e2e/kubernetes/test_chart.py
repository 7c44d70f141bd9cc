"""The chart in both scopes, by helm itself: the least rights, and values that are refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from harness.programs import Failed, helm
from harness.release import CHART

Json = dict[str, Any]
SECRETS = {"secrets", "pods/exec", "pods/log", "*"}


def rendered(values: Json) -> list[Json]:
    """Every object of the chart."""
    words = ("--kube-version", "1.30.0", "--namespace", "llm", "--values", "-")
    text = helm("template", "llm", CHART, *words, stdin=json.dumps(values))
    return [found for found in yaml.safe_load_all(text) if found]


def kinds(found: list[Json], kind: str) -> list[Json]:
    """The objects of one kind."""
    return [one for one in found if one["kind"] == kind]


def rights(found: list[Json], *which: str) -> set[tuple[str, str]]:
    """(resource, verb) of these kinds of roles."""
    rules = [rule for kind in which for role in kinds(found, kind) for rule in role["rules"]]
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


@pytest.mark.parametrize("values", [{}, {"watchNamespaces": ["apps", "ml"]}, {"readNodes": False}])
def test_no_secret_of_others_is_read_and_nothing_is_run_in_a_pod(values: Json) -> None:
    found = rendered(values)
    roles = [role for kind in ("Role", "ClusterRole") for role in kinds(found, kind)]
    keys = {"llm-gateway-keys": "secrets configmaps", "llm-gateway-first-key": "secrets"}
    granted = rights([role for role in roles if role["metadata"]["name"] not in keys], "Role", "ClusterRole")
    assert not {resource for resource, _ in granted} & SECRETS
    assert not {verb for _, verb in rights(roles, "Role", "ClusterRole")} & {"*", "escalate", "impersonate", "bind"}
    for role in (role for role in roles if role["metadata"]["name"] in keys):
        assert role["metadata"]["namespace"] == "llm"
        for rule in role["rules"]:
            assert set(rule["resources"]) <= set(keys[role["metadata"]["name"]].split())
            assert rule.get("resourceNames") or rule["verbs"] == ["create"]


def test_keys_are_made_by_a_program_so_that_what_is_rendered_twice_is_equal() -> None:
    found = rendered({})
    assert found == rendered({}) and not kinds(found, "Secret")
    (gateway,) = (one for one in kinds(found, "Deployment") if one["metadata"]["name"] == "llm-gateway")
    assert "--keys-of=llm-gateway" in gateway["spec"]["template"]["spec"]["containers"][0]["args"]
    (usage,) = (one for one in kinds(found, "ConfigMap") if one["metadata"]["name"] == "llm-gateway-usage")
    assert "data" not in usage, "an upgrade would take away what was written"


@pytest.mark.parametrize("keys", [None, {"enabled": False}])
def test_without_keys_nobody_is_asked_for_one(keys: Json | None) -> None:
    """None: an upgrade with --reuse-values from a release that had no such value."""
    found = rendered({"gateway": {"keys": keys}})
    assert "--keys-of" not in json.dumps(found)
    assert not [one for one in found if "key" in one["metadata"]["name"] or "usage" in one["metadata"]["name"]]
    installation = yaml.safe_load(kinds(found, "ConfigMap")[0]["data"]["installation.yaml"])
    assert installation["gateway"]["keys"] is False


def test_a_list_of_namespaces_needs_no_rights_in_the_cluster() -> None:
    found = rendered({"watchNamespaces": ["apps", "ml"], "readNodes": False})
    assert not kinds(found, "ClusterRole") and not kinds(found, "ClusterRoleBinding")
    bound = {one["metadata"]["namespace"] for one in kinds(found, "RoleBinding")}
    assert bound == {"apps", "ml", "llm"}
    installation = yaml.safe_load(kinds(found, "ConfigMap")[0]["data"]["installation.yaml"])
    assert installation["namespaces"] == ["apps", "ml"]
    assert installation["readNodes"] is False


def test_nodes_are_only_listed() -> None:
    assert {verb for resource, verb in rights(rendered({}), "ClusterRole") if resource == "nodes"} == {"list"}
    assert "nodes" not in {resource for resource, _ in rights(rendered({"readNodes": False}), "ClusterRole")}


def test_the_gateway_reads_services_and_endpoints_and_writes_leases_of_its_own_namespace() -> None:
    def granted(found: list[Json]) -> dict[str, set[tuple[str, str]]]:
        roles = [role for kind in ("Role", "ClusterRole") for role in kinds(found, kind)]
        mine = [role for role in roles if "gateway" in role["metadata"]["name"]]
        return {
            role["metadata"]["name"]: rights([role], role["kind"])
            for role in mine
            if "key" not in role["metadata"]["name"]
        }

    reading = {(resource, verb) for resource in ("llmservices", "endpointslices") for verb in ("list", "watch")}
    leases = {("leases", verb) for verb in ("list", "watch", "create", "patch", "delete")}
    with_page = {
        "llm-llm-gateway": reading | {("events", "list")},
        "llm-gateway-leases": leases,
        "llm-gateway-console": {("pods", "get")},
    }
    assert granted(rendered({})) == with_page
    found = rendered({"watchNamespaces": ["apps"], "readNodes": False})
    assert granted(found) == with_page
    for console in (None, {"enabled": False}):  # None: an upgrade with --reuse-values of a release that had none
        without = rendered({"gateway": {"console": console}})
        assert granted(without) == {"llm-llm-gateway": reading, "llm-gateway-leases": leases}
        assert "--console" not in json.dumps(without)
    (role,) = (role for role in kinds(found, "Role") if role["metadata"]["name"] == "llm-gateway-leases")
    assert role["metadata"]["namespace"] == "llm"


def test_the_page_asks_prometheus_where_one_is_configured_and_with_the_same_secrets() -> None:
    server = {"url": "https://p:9090", "labels": {"cluster": "a", "team": "b"}, "tokenSecret": {"name": "token"}}
    gateways = []
    for values in ({"prometheus": server}, {"prometheus": server, "gateway": {"console": {"enabled": False}}}):
        found = kinds(rendered(values), "Deployment")
        gateways += [one["spec"]["template"]["spec"] for one in found if one["metadata"]["name"] == "llm-gateway"]
    asking, not_asking = gateways
    wanted = {"--prometheus=https://p:9090", "--prometheus-labels=cluster=a,team=b"}
    assert wanted < set(asking["containers"][0]["args"])
    assert "token" in json.dumps(asking["volumes"])
    assert "prometheus" not in json.dumps(not_asking)


@pytest.mark.parametrize("values", [{"gateway": None}, {"gateway": {"enabled": False}}])
def test_without_a_gateway_there_is_none(values: Json) -> None:
    """None: an upgrade with --reuse-values from a release that had no such value."""
    found = rendered(values)
    assert not [one for one in found if "gateway" in one["metadata"]["name"]]
    installation = yaml.safe_load(kinds(found, "ConfigMap")[0]["data"]["installation.yaml"])
    assert installation["gateway"] == {}


def test_the_operator_knows_the_gateway_by_the_labels_of_its_pods() -> None:
    found = rendered({"gateway": {"access": "Direct"}})
    installation = yaml.safe_load(kinds(found, "ConfigMap")[0]["data"]["installation.yaml"])
    pods = next(one for one in kinds(found, "Deployment") if one["metadata"]["name"] == "llm-gateway")["spec"]
    labels = installation["gateway"]["labels"]
    assert installation["gateway"] == {"service": "llm-gateway", "labels": labels, "access": "Direct", "keys": True}
    assert pods["selector"]["matchLabels"] == labels
    assert labels.items() <= pods["template"]["metadata"]["labels"].items()
    assert [one["spec"]["selector"] for one in kinds(found, "Service")] == [labels] * 2
    (arguments,) = (one for one in pods["template"]["spec"]["containers"][0]["args"] if one.startswith("--labels="))
    assert dict(part.split("=") for part in arguments.removeprefix("--labels=").split(",")).items() <= labels.items()


def test_monitors_are_made_when_they_are_asked_for() -> None:
    assert not kinds(rendered({}), "PodMonitor")
    assert "podmonitors" not in {resource for resource, _ in rights(rendered({}), "ClusterRole")}
    found = rendered({"monitoring": {"enabled": True, "labels": {"release": "kps"}}})
    monitors = kinds(found, "PodMonitor")
    assert [monitor["metadata"]["labels"]["release"] for monitor in monitors] == ["kps"] * 2  # operator and gateway
    assert ("podmonitors", "patch") in rights(found, "ClusterRole")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"gateway": {"access": "Both"}}, "access"),
        ({"gateway": {"keys": {"enable": True}}}, "enable"),
        ({"gateway": {"aliases": {"gpt-4o": "qwen"}}}, "gpt-4o"),
        ({"replicas": "two"}, "replicas"),
        ({"runtime": {"images": [{"image": "r:1", "engines": ["Ollama"]}]}}, "engines"),
        ({"watchNamespace": ["apps"]}, "watchNamespace"),
        ({"image": {"repository": "r", "digest": "sha256:12"}}, "digest"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: Json, named: str) -> None:
    with pytest.raises(Failed) as refused:
        helm("lint", CHART, "--values", "-", stdin=json.dumps(values))
    assert named in str(refused.value)
    helm("lint", CHART, "--strict")
