"""Names of revisions and Jobs outlast upgrades of the operator: another name is another pod."""

from __future__ import annotations

import json
from typing import Any

import pytest
from core_world import World  # type: ignore[import-not-found]

Json = dict[str, Any]


def claim(**fields: Any) -> Json:
    return {"type": "PersistentVolumeClaim", "persistentVolumeClaim": fields}


SIZE = claim(size="9Gi")
SHARED = claim(size="9Gi", storageClassName="fast", accessModes=["ReadWriteMany"])
TEMPLATE = {
    "metadata": {"labels": {"team": "red"}},
    "spec": {
        "containers": [{"name": "side", "image": "x"}],
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "k", "operator": "Exists"}],
    },
}
PLAIN = "prepare-e3409bd1"
FIRST: dict[str, tuple[Json, str, str, str]] = {
    "nothing": ({}, "e3409bd1dd", PLAIN, ""),
    "engine": (
        {"engine": {"type": "LlamaCpp", "args": ["--kv-type=q8_0"]}, "contextTokens": 2048},
        "1a9b60a455",
        "prepare-2c3f809f",  # the first release's had not been told which weights are meant
        "",
    ),
    "account": (
        {"resources": {"requests": {"cpu": "2"}, "limits": {"memory": "20Gi"}}, "serviceAccountName": "mine"},
        "d2bfdc73af",
        "prepare-f6a63847",
        "",
    ),
    "empty template": ({"podTemplate": {}}, "8ef1acb567", PLAIN, ""),
    "drain": (
        {"endpoint": {"drainSeconds": 9}, "rollout": {"upgradePolicy": "Pinned"}},
        "bea1e2dde3",
        PLAIN,
        "",
    ),
    "claim": ({"cache": claim(claimName="models")}, "bffa6d6f1a", PLAIN, "fetch-2a70ed5d"),
    "size": ({"cache": SIZE}, "9cdaf20bda", PLAIN, "fetch-f29f3894"),
    "class": ({"cache": SHARED, "replicas": 2}, "da56de4b1d", PLAIN, "fetch-f1a1a0fd"),
    "template": ({"podTemplate": TEMPLATE, "cache": SIZE}, "dcb207f1d4", "prepare-2f563629", "fetch-24c9f7ca"),
}
"""Specs with the names that the first release gave: of the revision, and of both Jobs."""


def names(world: World, kind: str) -> list[str]:
    return [child["metadata"]["name"] for child in world.of(kind)]


def renamed(world: World, **old: str) -> None:
    """What an earlier release left: the same with names of its own."""
    text = json.dumps([[list(key), obj] for key, obj in world.objects.items()])
    for now, name in old.items():
        text = text.replace(now, name)
    world.objects = {(kind, name): obj for (kind, name), obj in json.loads(text)}


@pytest.mark.parametrize("case", FIRST)
def test_an_upgrade_from_the_first_release_rolls_nothing_and_downloads_nothing(case: str) -> None:
    spec, revision, inspect, fetch = FIRST[case]
    world = World().edit(**spec)
    world.pass_()
    assert names(world, "Job") == [f"demo-{inspect}"]
    world.prepared().pass_()
    (made,), jobs = names(world, "ControllerRevision"), names(world, "Job")
    if fetch:
        renamed(world, **{made: f"demo-{revision}", jobs[-1]: f"demo-{fetch}"})
        world.pass_()
        assert names(world, "Job")[-1] == f"demo-{fetch}"  # a download that runs goes on
        world.prepared().pass_()
    else:
        renamed(world, **{made: f"demo-{revision}"})
    world.rolled_out().pass_()
    before = world.get("Deployment")["spec"]["template"]
    world.wait(86_400).edit(replicas=world.get("Deployment")["spec"]["replicas"]).pass_()
    assert world.get("Deployment")["spec"]["template"] == before
    assert names(world, "ControllerRevision") == [f"demo-{revision}"]
    assert world.service["status"]["currentRevision"] == f"demo-{revision}"


EMPTY: list[Json] = [{}, {"spec": {}}, {"metadata": {}}, {"metadata": {"labels": {}}, "spec": {}}]


@pytest.mark.parametrize("template", EMPTY)
def test_a_template_that_says_nothing_rolls_nothing(template: Json) -> None:
    world = World().served()
    before = world.get("Deployment")["spec"]["template"]
    world.edit(podTemplate=template).pass_()
    assert world.get("Deployment")["spec"]["template"] == before
    assert len(names(world, "ControllerRevision")) == 1
