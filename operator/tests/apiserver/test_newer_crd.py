"""An upgrade brings the CRD before the operator: a new field with a default is in every service at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from live_world import make, settle, work_in  # type: ignore[import-not-found]

from llmservice_api.crd import CRD_NAME, custom_resource_definition
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import DEPLOYMENT, LLM_SERVICE, Json, Kind
from llmservice_kube.login import login
from llmservice_operator.facts.live import condition

CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)


def newer() -> Json:
    """The CRD with a new field, one inside a field that is there, and a new engine."""
    crd: Any = custom_resource_definition()
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["turbo"] = {"type": "object", "default": {"gear": 1}, "properties": {"gear": {"type": "integer"}}}
    spec["engine"]["properties"]["speculation"] = {"type": "string", "default": "Off"}
    spec["engine"]["properties"]["type"]["enum"].append("SGLang")
    return {"spec": crd["spec"]}


async def made(client: Client, name: str, **spec: object) -> tuple[str, str]:
    """A service, once the CRD that it needs is served."""
    async with asyncio.timeout(30):
        while True:
            try:
                key: tuple[str, str] = await make(client, "default", name, **spec)
                return key
            except ApiError as error:
                if not (error.refused or error.missing):
                    raise
                await asyncio.sleep(0.1)


async def test_services_go_on_through_a_newer_crd_and_what_is_not_known_is_named(tmp_path: Path) -> None:
    from cluster.api import api_only

    with api_only(tmp_path / "server") as kubeconfig:
        access = await login(str(kubeconfig))
        async with Client(access) as client:
            await client.send("create", CRD, CRD.path(), body=custom_resource_definition())
            old = await made(client, "old")
            await settle(work_in(access, client, "default"), client, "default")
            before = await client.get(DEPLOYMENT, *old)
            assert before is not None
            await client.send("patch", CRD, CRD.path(None, CRD_NAME), {"fieldManager": "helm"}, newer())
            unknown = await made(client, "unknown", engine={"type": "SGLang"})
            new = await made(client, "new", turbo={"gear": 3})
            # Defaults come without a new version of the object: they are seen by who reads it for the first time.
            await settle(work_in(access, client, "default"), client, "default")
            for key in (old, new):
                live = await client.get(LLM_SERVICE, *key)
                assert live is not None
                valid, ready = condition(live, "SpecValid"), condition(live, "Ready")
                assert valid is not None and ready is not None
                assert (valid["status"], valid["reason"], ready["status"]) == ("True", "FieldsIgnored", "True")
                assert "spec.engine.speculation, spec.turbo" in valid["message"]
            assert await client.get(DEPLOYMENT, *old) == before, "nothing rolls"
            live = await client.get(LLM_SERVICE, *unknown)
            assert live is not None
            valid = condition(live, "SpecValid")
            assert valid is not None and valid["status"] == "False"
            assert 'spec.engine.type: "SGLang" is not one of Auto' in valid["message"]
