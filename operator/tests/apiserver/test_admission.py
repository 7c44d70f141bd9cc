"""What the API server takes and what it refuses: the CRD's schema, defaults, CEL and subresources."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LLM_SERVICE, Json

SAMPLES = sorted((Path(__file__).resolve().parents[3] / "config/samples").glob("*.yaml"))


def service(namespace: str, name: str = "qwen", **spec: object) -> Json:
    return {
        "apiVersion": LLM_SERVICE.api_version,
        "kind": LLM_SERVICE.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"uri": "file:///models/demo"}, **spec},
    }


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
async def test_every_sample_is_taken(client: Client, namespace: str, sample: Path) -> None:
    taken = 0
    for document in yaml.safe_load_all(sample.read_bytes()):  # noqa: ASYNC240 - a small local file
        if document["kind"] == "LLMService":
            document["metadata"]["namespace"] = namespace
            assert await client.create(document) is not None
            taken += 1
    assert taken


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"model": {"uri": "qwen"}}, "no known scheme"),
        ({"model": {"uri": "https://me:secret@host/x"}}, "credentials"),
        ({"model": {"uri": "file:///models/demo", "revision": "main"}}, "no revision"),
        ({"model": {}}, "spec.model.uri"),
        ({"engine": {"type": "SGLang"}}, "spec.engine.type"),
        ({"contextTokens": 0}, "spec.contextTokens"),
        ({"replicas": -1}, "spec.replicas"),
        ({"replicas": "two"}, "spec.replicas"),
        ({"accelerator": {"count": 65}}, "spec.accelerator.count"),
        ({"engine": {"env": [{"name": "A"}, {"name": "A"}]}}, "Duplicate"),
        ({"endpoint": {"drainSeconds": 10**9}}, "spec.endpoint.drainSeconds"),
        ({"adapters": [{"name": "sql", "uri": "pvc://claim/sql"}]}, "no scheme that an adapter can have"),
        ({"adapters": [{"name": "sql", "uri": "https://me:secret@host/x"}]}, "credentials"),
        ({"adapters": [{"name": "sql", "uri": "file:///sql", "revision": "v1"}]}, "adapters have no revision"),
        ({"adapters": [{"name": "qwen", "uri": "hf://a/b"}]}, "the service's own name"),
        ({"adapters": [{"name": "Sql", "uri": "hf://a/b"}]}, "spec.adapters"),
        ({"adapters": [{"name": "sql", "uri": "hf://a/b"}] * 2}, "Duplicate"),
        ({"adapters": [{"name": f"a{n}", "uri": "hf://a/b"} for n in range(65)]}, "spec.adapters"),
        ({"adapters": [{"name": "sql", "uri": "hf://a/b"}], "task": "Embedding"}, "models that write text"),
    ],
)
async def test_what_is_wrong_is_refused_by_name(client: Client, namespace: str, spec: Json, said: str) -> None:
    with pytest.raises(ApiError, match=said) as caught:
        await client.create(service(namespace, **spec))
    assert caught.value.refused


async def test_a_typo_is_refused_where_fields_are_checked_as_kubectl_does_and_pruned_elsewhere(
    client: Client, namespace: str
) -> None:
    typo = service(namespace, contextToken=1024)
    with pytest.raises(ApiError, match=r"unknown field \"spec\.contextToken\""):
        await client.send("create", LLM_SERVICE, LLM_SERVICE.path(namespace), {"fieldValidation": "Strict"}, typo)
    made = await client.create(typo)
    assert made is not None
    assert "contextToken" not in made["spec"]


@pytest.mark.parametrize("name", ["a" * 41, "a.b", "7b-chat"])
async def test_a_name_that_children_cannot_carry_is_refused(client: Client, namespace: str, name: str) -> None:
    with pytest.raises(ApiError, match=r"DNS label .* qwen-7b for 7b-qwen") as caught:
        await client.create(service(namespace, name))
    assert caught.value.refused


async def test_a_name_that_is_taken_has_a_service_of_that_name(client: Client, namespace: str) -> None:
    """The other side: what admission lets through is a name that the API server gives to a Service."""
    for name in ("a", "a" * 40, "a7-b", "kubernetes"):
        assert await client.create(service(namespace, name)) is not None
        ports = {"ports": [{"port": 80}]}
        made: Json = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}}
        assert await client.create({**made, "spec": ports}) is not None


async def test_defaults_are_filled_in_where_they_can_be_seen(client: Client, namespace: str) -> None:
    made = await client.create(service(namespace))
    assert made is not None
    spec = made["spec"]
    assert (spec["task"], spec["replicas"], spec["engine"]["type"]) == ("Auto", 1, "Auto")
    assert spec["endpoint"] == {"maxQueuedRequests": 100, "drainSeconds": 300}


async def test_scale_reads_and_writes_replicas(client: Client, namespace: str) -> None:
    await client.create(service(namespace))
    status = {"replicas": 1, "selector": "llmservice.dev/name=qwen"}
    await client.apply_status({**service(namespace), "spec": None, "status": status})
    path = LLM_SERVICE.path(namespace, "qwen", "scale")
    scale = await client.send("get", LLM_SERVICE, path)
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 1, "selector": status["selector"]})
    await client.send("patch", LLM_SERVICE, path, body={"spec": {"replicas": 3}})
    live = await client.get(LLM_SERVICE, namespace, "qwen")
    assert live is not None
    assert live["spec"]["replicas"] == 3


async def test_status_is_not_written_with_the_spec_nor_the_spec_with_the_status(client: Client, namespace: str) -> None:
    made = await client.create({**service(namespace), "status": {"replicas": 9}})
    assert made is not None
    assert "status" not in made
    body = {**service(namespace, replicas=7), "status": {"replicas": 2}}
    written = await client.apply_status(body)
    assert written["status"] == {"replicas": 2}
    assert written["spec"]["replicas"] == 1
    assert written["metadata"]["generation"] == 1
