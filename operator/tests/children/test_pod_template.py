"""podTemplate: it reaches replicas and what prepares them, never the plan's own fields, and says what it overrides."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.pod_template import merged
from llmservice_operator.children.prepare_job import job_name, prepare_job
from llmservice_operator.facts.config import ConfigMapKey, OperatorConfig, RuntimeImage
from llmservice_operator.facts.owner import Owner
from llmservice_operator.facts.pod_fields import forbidden
from llmservice_runtime.contract.engines import EngineType

OWNER = Owner("qwen", "apps", "u-1", queue="team")
CONFIG = OperatorConfig(
    (RuntimeImage("r:1", (EngineType.LLAMA_CPP,)),),
    "llm",
    environment=(("HTTPS_PROXY", "http://proxy"),),
    image_pull_secrets=("pull",),
    ca_bundle=ConfigMapKey("corporate", "ca.pem"),
)
AFFINITY = {"nodeAffinity": {"x": 1}, "podAntiAffinity": {"y": 2}}
RUNTIME: dict[str, Any] = {
    "name": "runtime",
    "env": [{"name": "HF_ENDPOINT", "value": "http://mirror"}],
    "envFrom": [{"configMapRef": {"name": "proxy"}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    "startupProbe": {"failureThreshold": 9},
    "resources": {"claims": [{"name": "gpu"}], "limits": {"ephemeral-storage": "9Gi"}},
}
RICH: dict[str, Any] = {
    "metadata": {"labels": {"sidecar.istio.io/inject": "false"}, "annotations": {"team": "a"}},
    "spec": {
        "imagePullSecrets": [{"name": "mine"}],
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": AFFINITY,
        "volumes": [{"name": "data", "emptyDir": {}}],
        "containers": [RUNTIME, {"name": "side", "image": "side:1"}],
    },
}


def spec(template: dict[str, Any], **fields: Any) -> LLMServiceSpec:
    return LLMServiceSpec.model_validate({"model": {"uri": "hf://a/b"}, "podTemplate": template, **fields})


def test_the_job_gets_what_it_needs_to_run_and_to_reach_the_model_and_nothing_else() -> None:
    job = prepare_job(OWNER, spec(RICH), CONFIG, "account")
    template, pod = job["spec"]["template"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["imagePullSecrets"] == [{"name": "pull"}, {"name": "mine"}]
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"pool": "gpu"}, RICH["spec"]["tolerations"])
    assert pod["affinity"] == {"nodeAffinity": {"x": 1}}
    assert not {"priorityClassName", "runtimeClassName"} & set(pod)
    assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert template["metadata"]["annotations"] == {"team": "a"}
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    assert env == {
        "HOME": "/tmp",
        "HTTPS_PROXY": "http://proxy",
        "HF_ENDPOINT": "http://mirror",
        "SSL_CERT_FILE": "/etc/llmservice-ca/ca.pem",
        "REQUESTS_CA_BUNDLE": "/etc/llmservice-ca/ca.pem",
    }
    assert container["envFrom"] == RUNTIME["envFrom"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/data", "/etc/llmservice-ca"}
    assert {volume["name"] for volume in pod["volumes"]} >= {"data", "ca"}
    assert "claims" not in container["resources"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"


def test_a_proxy_inside_the_network_is_the_installations_to_name() -> None:
    def proxies(config: OperatorConfig, **container: Any) -> list[str]:
        job = prepare_job(OWNER, spec({"spec": {"containers": [{"name": "runtime", **container}]}}), config, "account")
        arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
        return [argument for argument in arguments if argument.startswith(("--proxy", "--allow"))]

    mine = {"env": [{"name": "HTTPS_PROXY", "value": "http://169.254.169.254"}]}
    assert proxies(CONFIG) == proxies(CONFIG, **mine) == ["--proxy=http://proxy"]
    assert proxies(dataclasses.replace(CONFIG, environment=(("NO_PROXY", "a"), ("X", "b")))) == []
    assert proxies(dataclasses.replace(CONFIG, private_sources=True), **mine) == ["--allow-private"]
    both = dataclasses.replace(CONFIG, environment=(("http_proxy", "p:3128"), ("HTTPS_PROXY", "http://p:3128")))
    assert proxies(both) == ["--proxy=http://p:3128"]


def test_only_what_reaches_the_job_makes_another_job() -> None:
    plain = LLMServiceSpec.model_validate({"model": {"uri": "hf://a/b"}})
    same = spec({"spec": {"priorityClassName": "high", "affinity": {"podAntiAffinity": {"y": 2}}}})
    assert job_name(OWNER, same) == job_name(OWNER, plain)
    assert job_name(OWNER, spec(RICH)) != job_name(OWNER, plain)
    assert job_name(Owner("qwen", "apps", "u-1"), plain) != job_name(OWNER, plain)


def test_a_replicas_own_download_reaches_what_the_engine_reaches() -> None:
    base: dict[str, Any] = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {
            "initContainers": [{"name": "fetch", "image": "r:1"}],
            "containers": [{"name": "runtime", "image": "r:1", "startupProbe": {"failureThreshold": 3}}],
        },
    }
    template, overridden = merged(base, spec(RICH))
    (fetch,) = template["spec"]["initContainers"]
    assert fetch["envFrom"] == RUNTIME["envFrom"]
    assert [container["name"] for container in template["spec"]["containers"]] == ["runtime", "side"]
    assert overridden == ["spec.containers[runtime].startupProbe.failureThreshold"]


@pytest.mark.parametrize(
    ("template", "field", "remedy"),
    [
        ({"metadata": {"labels": {"llmservice.dev/name": "x"}}}, "metadata.labels.llmservice.dev/name", "operator"),
        ({"spec": {"serviceAccountName": "x"}}, "spec.serviceAccountName", "spec.serviceAccountName"),
        ({"spec": {"terminationGracePeriodSeconds": 1}}, "spec.terminationGracePeriodSeconds", "drainSeconds"),
        ({"spec": {"volumes": [{"name": "cache"}]}}, "spec.volumes[cache]", "choose another"),
        ({"spec": {"initContainers": [{"name": "fetch"}]}}, "spec.initContainers[fetch]", "containers[runtime]"),
    ],
)
def test_what_the_plan_owns_is_refused_with_the_field_to_use(template: Any, field: str, remedy: str) -> None:
    ((found, said),) = forbidden(spec(template))
    assert found == field
    assert remedy in said


@pytest.mark.parametrize(
    ("container", "field", "remedy"),
    [
        ({"image": "x"}, "image", "spec.engine.image"),
        ({"args": ["x"]}, "args", "spec.engine.args"),
        ({"ports": []}, "ports", "contract"),
        ({"livenessProbe": {"httpGet": {"port": 1}}}, "livenessProbe.httpGet", "times"),
        ({"resources": {"limits": {"memory": "1Gi"}}}, "resources.limits.memory", "spec.resources.limits.memory"),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, "resources.limits.nvidia.com/gpu", "spec.accelerator"),
        ({"resources": {"limits": {"habana.ai/gaudi": 1}}}, "resources.limits.habana.ai/gaudi", "spec.accelerator"),
        ({"volumeMounts": [{"mountPath": "/cache/x"}]}, "volumeMounts[/cache/x]", "choose another"),
    ],
)
def test_what_the_plan_owns_of_the_engines_container_is_refused(container: Any, field: str, remedy: str) -> None:
    template = {"spec": {"containers": [{"name": "runtime", **container}]}}
    ((found, said),) = forbidden(spec(template, accelerator={"resourceName": "habana.ai/gaudi"}))
    assert found == f"spec.containers[runtime].{field}"
    assert remedy in said


@pytest.mark.parametrize("pod", [{"containers": "x"}, {"containers": [1, {"name": 2}]}, {"volumes": {"a": 1}}])
def test_nonsense_is_left_to_the_api_server(pod: dict[str, Any]) -> None:
    assert list(forbidden(spec({"spec": pod}))) == []
    assert prepare_job(OWNER, spec({"spec": pod}), CONFIG, "account")["kind"] == "Job"


def test_a_template_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 32,768"):
        spec({"spec": {"nodeSelector": {"a": "x" * 40_000}}})
