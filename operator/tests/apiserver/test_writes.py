"""Server-side apply as the real server does it: when an object must be applied, and what that leaves alone."""

from __future__ import annotations

import copy
from typing import Any

from llmservice_kube.client import Client
from llmservice_kube.kinds import DEPLOYMENT, LLM_SERVICE, SERVICE, Json
from llmservice_operator.control.diff import must_apply, stamped


def deployment(namespace: str) -> Json:
    """With lists that merge, quantities that are not canonical, and fields whose defaults the server fills in."""
    labels = {"llmservice.dev/name": "qwen"}
    container = {
        "name": "runtime",
        "image": "runtime:1",
        "args": ["serve"],
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "qwen", "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


async def patch(client: Client, namespace: str, body: Json) -> Json:
    """A write of somebody else."""
    path = DEPLOYMENT.path(namespace, "qwen")
    return await client.send("patch", DEPLOYMENT, path, {"fieldManager": "somebody"}, body)


async def test_what_was_applied_need_not_be_applied_again(client: Client, namespace: str) -> None:
    wanted = stamped(deployment(namespace))
    live = await client.apply(wanted)
    assert live["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "1"
    assert not must_apply(wanted, live)
    again = await client.apply(wanted)
    assert again["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]


async def test_a_changed_field_of_ours_is_seen_and_restored_and_foreign_ones_stay(
    client: Client, namespace: str
) -> None:
    wanted = stamped(deployment(namespace))
    await client.apply(wanted)
    foreign = await patch(client, namespace, {"metadata": {"annotations": {"team": "a"}}, "spec": {"paused": True}})
    assert not must_apply(wanted, foreign)
    drifted = await patch(client, namespace, {"spec": {"replicas": 5}})
    assert must_apply(wanted, drifted)
    restored = await client.apply(wanted)
    assert restored["spec"]["replicas"] == 1
    assert restored["spec"]["paused"] is True
    assert restored["metadata"]["annotations"]["team"] == "a"
    assert not must_apply(wanted, restored)


async def test_an_item_that_was_taken_out_of_a_list_is_seen(client: Client, namespace: str) -> None:
    wanted = stamped(deployment(namespace))
    live = await client.apply(wanted)
    pod: dict[str, Any] = copy.deepcopy(live["spec"]["template"]["spec"])
    del pod["containers"][0]["env"][1]
    drifted = await patch(client, namespace, {"spec": {"template": {"spec": pod}}})
    assert must_apply(wanted, drifted)
    restored = await client.apply(wanted)
    assert [item["name"] for item in restored["spec"]["template"]["spec"]["containers"][0]["env"]] == ["A", "B"]


async def test_a_field_that_is_no_longer_wanted_goes(client: Client, namespace: str) -> None:
    live = await client.apply(stamped(deployment(namespace)))
    less = deployment(namespace)
    del less["spec"]["template"]["spec"]["containers"][0]["env"][0]
    assert must_apply(stamped(less), live)
    changed = await client.apply(stamped(less))
    assert changed["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "B", "value": "2"}]
    assert not must_apply(stamped(less), changed)


async def test_an_owner_is_kept_and_a_delete_of_another_uid_is_refused(client: Client, namespace: str) -> None:
    body: Json = {"metadata": {"name": "qwen", "namespace": namespace}, "spec": {"model": {"uri": "file:///m"}}}
    owner = await client.create({"apiVersion": LLM_SERVICE.api_version, "kind": LLM_SERVICE.kind, **body})
    assert owner is not None
    reference = {
        "apiVersion": LLM_SERVICE.api_version,
        "kind": LLM_SERVICE.kind,
        "name": "qwen",
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    child: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "qwen", "namespace": namespace, "ownerReferences": [reference]},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8000}], "selector": {"a": "b"}},
    }
    live = await client.apply(stamped(child))
    assert live["metadata"]["ownerReferences"] == [reference]
    assert not must_apply(stamped(child), live)
    assert not await client.delete(SERVICE, namespace, "qwen", "11111111-1111-1111-1111-111111111111")
    assert await client.delete(SERVICE, namespace, "qwen", live["metadata"]["uid"])
    assert await client.get(SERVICE, namespace, "qwen") is None
