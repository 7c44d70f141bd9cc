"""`llmservice explain` of a cluster: whom it asks, and what it says when there is nothing to tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmservice_cli.cluster import _ask, connected
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LEASE, LLM_SERVICE, Kind
from llmservice_runtime.contract.errors import UserError

PATH = "/api/v1/namespaces/llm/pods/llmservice-7f-x:8081/proxy/scaling/apps/qwen"


class Cluster:
    """A client of one with a service and a leader."""

    def __init__(self, spec: Any = None, installation: str = "llm", holder: str = "llmservice-7f-x_0a1b2c3d") -> None:
        self.service = {"spec": {"scaling": {"maxReplicas": 2}} if spec is None else spec}
        self.service["status"] = {"installation": installation} if installation else {}
        self.holder, self.asked = holder, ""
        self.refuses: ApiError | None = None

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        if kind == LLM_SERVICE:
            return self.service if (namespace, name) == ("apps", "qwen") else None
        assert (kind, namespace, name) == (LEASE, "llm", "llmservice-operator")
        return {"spec": {"holderIdentity": self.holder}}

    async def send(self, verb: str, kind: Kind, path: str) -> Any:
        self.asked = path
        if self.refuses is not None:
            raise self.refuses
        return {"service": "apps/qwen"}


async def test_the_leader_is_asked_through_the_api_server() -> None:
    cluster = Cluster()
    assert await _ask(cluster, "apps", "qwen") == {"service": "apps/qwen"}  # type: ignore[arg-type]
    assert cluster.asked == PATH


@pytest.mark.parametrize(
    ("cluster", "name", "said"),
    [
        (Cluster(), "other", "there is no LLMService apps/other"),
        (Cluster(spec={}), "qwen", "it has no spec.scaling"),
        (Cluster(spec={"scaling": {"mode": "External"}}), "qwen", "spec.scaling.mode is External"),
        (Cluster(installation=""), "qwen", "no operator has looked at apps/qwen yet"),
        (Cluster(holder=""), "qwen", "no operator leads in llm"),
    ],
)
async def test_it_says_why_there_is_nothing_to_tell(cluster: Cluster, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        await _ask(cluster, "apps", name)  # type: ignore[arg-type]
    assert cluster.asked == ""


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "nothing was decided about apps/qwen yet"), (403, "you may not ask the operator: no")],
)
async def test_what_the_operator_or_its_api_server_refuses_is_told(status: int, said: str) -> None:
    cluster = Cluster()
    cluster.refuses = ApiError("get", status, "X", "no")
    with pytest.raises(UserError, match=said):
        await _ask(cluster, "apps", "qwen")  # type: ignore[arg-type]


async def test_a_kubeconfig_that_is_not_there_is_named_and_nothing_else_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match=f"There is no cluster to ask: {tmp_path}/none does not exist"):
        async with connected(f"{tmp_path}/none"):
            pass
    assert not caplog.records
