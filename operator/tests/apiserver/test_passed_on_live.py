"""A label of an LLMService comes to its live children and goes from them again; no pod is rolled for it."""

from __future__ import annotations

from live_world import make, settle, work_in  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import CONTROLLER_REVISION, DEPLOYMENT, JOB, LLM_SERVICE, OWNED, POD, Json
from llmservice_kube.login import Access

MADE_ONCE = (JOB, CONTROLLER_REVISION, POD)
"""They have the labels that the service had when they were made."""


async def test_a_label_comes_and_goes_without_a_roll(access: Access, client: Client, namespace: str) -> None:
    key = await make(client, namespace)
    work = work_in(access, client, namespace)

    async def label(value: str | None) -> tuple[Json, dict[str, Json]]:
        """Label the service: (the Deployment, the labels of all its children)."""
        body = {"metadata": {"labels": {"team": value}, "annotations": {"acme.example/contact": value}}}
        await client.send("patch", LLM_SERVICE, LLM_SERVICE.path(*key), {"fieldManager": "user"}, body)
        await settle(work, client, namespace)
        found = {
            f"{kind} {child['metadata']['name']}": child["metadata"]
            for kind in OWNED
            if kind not in MADE_ONCE
            for child in (await client.list(kind, namespace)).items
            if child["metadata"].get("ownerReferences")
        }
        deployment = await client.get(DEPLOYMENT, *key)
        assert deployment is not None
        return deployment, found

    first, _ = await label(None)
    red, labelled = await label("red")
    assert {name.partition(" ")[0] for name in labelled} >= {"Deployment", "Service", "ServiceAccount", "NetworkPolicy"}
    assert {metadata["labels"]["team"] for metadata in labelled.values()} == {"red"}
    account = next(name for name in labelled if name.startswith("ServiceAccount "))
    assert "acme.example/contact" not in labelled.pop(account).get("annotations", {}), "clouds give rights by them"
    assert {metadata["annotations"]["acme.example/contact"] for metadata in labelled.values()} == {"red"}
    assert red["spec"] == first["spec"]
    plain, unlabelled = await label(None)
    assert all("team" not in metadata["labels"] for metadata in unlabelled.values())
    assert all("acme.example/contact" not in metadata["annotations"] for metadata in unlabelled.values())
    assert plain["spec"] == first["spec"]
