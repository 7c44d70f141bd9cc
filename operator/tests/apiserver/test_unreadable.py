"""Objects of odd content on the real API server: each costs only itself, and says so where it stands in the way."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
import yaml
from live_world import make, one_pass, settle, work_in, written  # type: ignore[import-not-found]

from llmservice_kube.cache import MOST_BYTES
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import CONTROLLER_REVISION, LLM_SERVICE, NODE, Json
from llmservice_kube.login import Access, login
from llmservice_operator.control.nodes import Nodes
from llmservice_operator.facts.live import condition


async def test_a_revision_that_nobody_of_us_wrote_stops_one_service_until_it_is_removed(
    access: Access, client: Client, namespace: str
) -> None:
    key, other = await make(client, namespace), await make(client, namespace, "other")
    async with Client(access) as own:
        await settle(work_in(access, own, namespace), client, namespace)
    revisions = (await client.list(CONTROLLER_REVISION, namespace)).items
    (mine,) = (found for found in revisions if found["metadata"]["labels"]["llmservice.dev/name"] == key[1])
    metadata = {name: mine["metadata"][name] for name in ("name", "namespace", "labels", "ownerReferences")}
    await _delete(client, namespace, mine)
    odd: Json = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": 1}
    made = await client.create({**odd, "data": {"template": "odd", "notes": 7}})
    assert made is not None
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await settle(work, client, namespace)
        assert work.cache.unreadable.counts == {"ControllerRevision": 1}
        said = await _ready(client, key)
        assert (said["reason"], metadata["name"] in said["message"]) == ("NameConflict", True)
        assert (await _ready(client, other))["reason"] == "Ready"
        before = written(own)
        await one_pass(work)
        assert written(own) == before, "it is told once, and nothing is tried over and over"
        await _delete(client, namespace, made)
        await settle(work, client, namespace)
        assert (await _ready(client, key))["reason"] == "Ready"


async def test_objects_that_no_parser_reads_cost_no_service_but_themselves(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace)
    deep: Json = {}
    for _ in range(240):
        deep = {"a": deep}
    metadata: Json = {"name": "deep", "namespace": namespace, "labels": {"llmservice.dev/name": "deep"}}
    service: Json = {"apiVersion": LLM_SERVICE.api_version, "kind": "LLMService", "metadata": metadata}
    service["spec"] = {"model": {"uri": "hf://a/b"}, "podTemplate": {"spec": {"x": deep}}}
    revision: Json = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": 1}
    for odd in (service, {**revision, "data": deep}):
        with pytest.raises(ApiError, match="201 Unreadable"):  # it is made; the answer has it as well
            await client.create(odd)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await settle(work, client, namespace)
        assert work.cache.unreadable.counts == {"ControllerRevision": 1, "LLMService": 1}
    assert (await _ready(client, key))["reason"] == "Ready"


async def test_a_service_that_cant_be_read_says_so_itself_and_goes_on_once_it_can_be(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace)
    deep: Json = {}
    for _ in range(240):
        deep = {"a": deep}
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await settle(work, client, namespace)
        for odd, why in ((deep, "recursion limit exceeded"), ("x" * MOST_BYTES, "more than 384 KiB")):
            with contextlib.suppress(ApiError):  # it is taken; what can't be parsed is the answer
                await _template(client, key, {"x": odd})
            for _ in range(3):
                await one_pass(work)
            (live,) = (await client.list(LLM_SERVICE, namespace)).items
            said, ready = condition(live, "SpecValid"), condition(live, "Ready")
            assert said is not None and ready is not None
            assert (said["status"], said["reason"]) == ("False", "Invalid")
            assert f"can't be read: {why}" in said["message"].replace("it has ", "") and "smaller" in said["message"]
            assert ready["status"] == "True" and live["status"]["url"], "what runs goes on"
            before = written(own)
            await one_pass(work)
            assert written(own) == before, "it is said once"
        with contextlib.suppress(ApiError):
            await _template(client, key, None)
        await settle(work, client, namespace)
        mended = await client.get(LLM_SERVICE, *key)
        assert mended is not None
        assert [found["status"] for kind in ("SpecValid", "Ready") if (found := condition(mended, kind))] == [
            "True",
            "True",
        ]


async def _template(client: Client, key: tuple[str, str], spec: Json | None) -> None:
    body: Json = {"spec": {"podTemplate": None if spec is None else {"spec": spec}}}
    await client.send("patch", LLM_SERVICE, LLM_SERVICE.path(*key), {"fieldManager": "kubectl"}, body)


async def test_every_amount_that_a_node_may_have_is_read(client: Client, namespace: str) -> None:
    amounts = {
        "cpu": "7500000u",
        "memory": "1e10",
        "ephemeral-storage": "1.5E12",
        "pods": "110",
        "example.com/a": "2e3",
        "nvidia.com/gpu": "9Ei",
        "example.com/b": "0",
    }
    name = f"node-{namespace}"
    body: Json = {"metadata": {"name": name, "labels": {"kubernetes.io/arch": namespace}}}
    await client.send("create", NODE, NODE.path(), body=body)
    try:
        status = {"status": {"capacity": amounts, "allocatable": amounts}}
        await client.send("patch", NODE, NODE.path(None, name, "status"), {"fieldManager": "kubelet"}, status)
        nodes = Nodes(client, lambda: None)
        await nodes.read()
        (mine,) = (kind for kind in nodes.kinds or () if kind.architecture == namespace)
        assert (mine.cpus, mine.memory_bytes >> 30) == (7, 9)
        assert dict(mine.resources).keys() == {"example.com/a", "nvidia.com/gpu"}
    finally:
        await client.send("delete", NODE, NODE.path(None, name))


async def test_a_server_that_is_not_verified_still_sees_who_we_are(kubeconfig: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))
    cluster = content["clusters"][0]["cluster"]
    for name in ("certificate-authority", "certificate-authority-data"):
        cluster.pop(name, None)
    user = content["users"][0]["user"]
    assert any(name.startswith("client-certificate") for name in user), "it is known by its certificate alone"
    cluster["insecure-skip-tls-verify"] = True
    path = tmp_path / "insecure.kubeconfig"
    await asyncio.to_thread(path.write_text, yaml.safe_dump(content))
    async with Client(await login(str(path))) as client:
        await client.list(LLM_SERVICE)


async def _delete(client: Client, namespace: str, revision: Json) -> None:
    assert await client.delete(
        CONTROLLER_REVISION, namespace, revision["metadata"]["name"], revision["metadata"]["uid"]
    )


async def _ready(client: Client, key: tuple[str, str]) -> Json:
    live = await client.get(LLM_SERVICE, *key)
    assert live is not None
    found = condition(live, "Ready")
    assert found is not None
    return found
