"""An operator that came before its CRD, as GitOps may order them: services work, and it says what is to be done."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from live_world import settle, work_in  # type: ignore[import-not-found]
from test_newer_crd import CRD, made  # type: ignore[import-not-found]

from llmservice_api.crd import CRD_NAME, custom_resource_definition
from llmservice_kube.client import Client
from llmservice_kube.kinds import LLM_SERVICE, Json
from llmservice_kube.login import login
from llmservice_operator.control import older_crd
from llmservice_operator.control.health import Health
from llmservice_operator.facts.live import condition


def older() -> Json:
    """The CRD without fields of the status, one of them inside another."""
    crd: Any = custom_resource_definition()
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    del status["installation"]
    del status["plan"]["properties"]["engine"]
    status["plan"]["required"] = [name for name in status["plan"].get("required", ()) if name != "engine"]
    return dict(crd)


async def test_status_is_written_without_what_an_older_crd_lacks_until_that_is_updated(
    tmp_path: Path, monkeypatch: Any
) -> None:
    from cluster.api import api_only

    with api_only(tmp_path / "server") as kubeconfig:
        access = await login(str(kubeconfig))
        async with Client(access) as client:
            await client.send("create", CRD, CRD.path(), body=older())
            key = await made(client, "plain")
            work = work_in(access, client, "default")
            health: Health = work._health
            await settle(work, client, "default")
            live = await client.get(LLM_SERVICE, *key)
            assert live is not None
            ready = condition(live, "Ready")
            assert ready is not None and ready["status"] == "True", live["status"]
            assert "installation" not in live["status"] and "engine" not in live["status"]["plan"]
            assert "status.installation" in health.problems["crd"] and not health.ready
            assert "kubectl apply --server-side -f crds/" in health.problems["crd"]
            sent = client.counts["apply_status", "LLMService"]
            await settle(work, client, "default")
            assert client.counts["apply_status", "LLMService"] == sent, "nothing is asked again and again"

            monkeypatch.setattr(older_crd, "AGAIN_SECONDS", 0.0)
            work._actor.crd._lacks = dict.fromkeys(work._actor.crd._lacks, 0.0)  # it is time to try again
            body = {"spec": custom_resource_definition()["spec"]}
            await client.send("patch", CRD, CRD.path(None, CRD_NAME), {"fieldManager": "helm"}, body)
            async with asyncio.timeout(60):
                while health.problems:  # the server takes its time to serve the new schema
                    await settle(work, client, "default")
            live = await client.get(LLM_SERVICE, *key)
            assert live is not None and live["status"]["installation"] and live["status"]["plan"]["engine"]
