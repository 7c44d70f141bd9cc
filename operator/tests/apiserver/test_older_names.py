"""A service that an older CRD let in, with a name that no Service can have: it is told, written, and can be stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from live_world import edit, make, one_pass, work_in  # type: ignore[import-not-found]
from test_newer_crd import CRD, made  # type: ignore[import-not-found]

from llmservice_api.crd import CRD_NAME, custom_resource_definition
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LLM_SERVICE, Json
from llmservice_kube.login import login
from llmservice_operator.facts.live import condition


def older() -> Json:
    """The CRD before it had a rule about names."""
    crd: Any = custom_resource_definition()
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    return dict(crd)


async def refused(client: Client, name: str) -> None:
    """Until the new CRD's rule is in force."""
    async with asyncio.timeout(30):
        for attempt in range(1000):
            try:
                await make(client, "default", f"{name}-{attempt}")
            except ApiError as error:
                assert "not a DNS label" in error.message
                return
            await asyncio.sleep(0.1)


async def test_what_an_older_crd_let_in_is_told_and_can_be_stopped(tmp_path: Path) -> None:
    from cluster.api import api_only

    with api_only(tmp_path / "server") as kubeconfig:
        access = await login(str(kubeconfig))
        async with Client(access) as client:
            await client.send("create", CRD, CRD.path(), body=older())
            keys = [await made(client, name) for name in ("7b-chat", "qwen2.5", "a" * 63)]
            body = {"spec": custom_resource_definition()["spec"]}
            await client.send("patch", CRD, CRD.path(None, CRD_NAME), {"fieldManager": "helm"}, body)
            await refused(client, "8b")
            work = work_in(access, client, "default")
            await one_pass(work)
            for key in keys:
                live = await client.get(LLM_SERVICE, *key)
                assert live is not None
                valid, ready = condition(live, "SpecValid"), condition(live, "Ready")
                assert valid is not None and ready is not None
                assert (valid["status"], ready["status"], live["status"].get("url")) == ("False", "False", None)
                assert "make the service anew under another one" in valid["message"]
                await edit(client, key, replicas=0)
                live = await client.get(LLM_SERVICE, *key)
                assert live is not None and live["spec"]["replicas"] == 0
            await one_pass(work)
            with pytest.raises(ApiError):
                await make(client, "default", "9b-chat")
