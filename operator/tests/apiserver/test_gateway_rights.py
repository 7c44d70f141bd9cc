"""Keys with the rights that the chart gives, and no others: the operator makes the first, the gateway reads all."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import yaml
from live_world import make  # type: ignore[import-not-found]
from test_gateway_keys_live import (  # type: ignore[import-not-found]
    FIRST,
    KEYS,
    USAGE,
    ask,
    first_key,
    is_status,
    maker,
)
from test_gateway_process import gateway, put_endpoints, runtime, until  # type: ignore[import-not-found]

from llmservice_api.gateway_keys import encoded, new_key, record_of
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import CONFIG_MAP, LLM_SERVICE, SECRET, SERVICE_ACCOUNT, Json, Kind
from llmservice_kube.login import login

ROOT = Path(__file__).resolve().parents[3]
RBAC = "rbac.authorization.k8s.io"
KINDS = {
    "ServiceAccount": SERVICE_ACCOUNT,
    "ConfigMap": CONFIG_MAP,
    "Role": Kind(RBAC, "v1", "Role", "roles"),
    "RoleBinding": Kind(RBAC, "v1", "RoleBinding", "rolebindings"),
}


def rendered(namespace: str, *templates: str, values: Sequence[str] = ()) -> list[Json]:
    """What these templates of the chart say of a release `llm` that watches its own namespace alone."""
    helm: list[str | Path] = [
        sys.executable,
        ROOT / "e2e/cluster/cluster",
        "helm",
        "template",
        "llm",
        ROOT / "charts/llmservice",
    ]
    words = ["--kube-version=1.30.0", f"--namespace={namespace}", f"--set=watchNamespaces={{{namespace}}}"]
    shown = [f"--show-only=templates/gateway/{name}.yaml" for name in templates]
    sets = [f"--set={value}" for value in values]
    done = subprocess.run([*helm, *words, *shown, *sets], capture_output=True, text=True, check=True)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


async def install(client: Client, namespace: str, *values: str) -> None:
    account: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "llm", "namespace": namespace}}
    for obj in (account, *await asyncio.to_thread(rendered, namespace, "rbac", "config", values=values)):
        kind = KINDS[obj["kind"]]
        await client.send("create", kind, kind.path(namespace), {}, obj)


async def kubeconfig_of(client: Client, namespace: str, account: str, admin: Path, folder: Path) -> Path:
    """A kubeconfig with the token of a service account."""
    path = SERVICE_ACCOUNT.path(namespace, account, "token")
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = (await client.send("create", SERVICE_ACCOUNT, path, {}, asked))["status"]["token"]
    config = yaml.safe_load(await asyncio.to_thread(admin.read_text))
    for user in config["users"]:
        user["user"] = {"token": token}
    file = folder / f"{account}.kubeconfig"
    await asyncio.to_thread(file.write_text, yaml.safe_dump(config))
    return file


async def test_the_charts_rights_are_enough_and_reach_no_other_secret(
    kubeconfig: Path, tmp_path: Path, client: Client, namespace: str
) -> None:
    await make(client, namespace)
    await install(client, namespace)
    operator = await kubeconfig_of(client, namespace, "llm", kubeconfig, tmp_path)
    own = await kubeconfig_of(client, namespace, "llm-gateway", kubeconfig, tmp_path)
    async with Client(await login(str(operator))) as acting:
        assert await maker(acting, namespace).make() == ""
        assert await maker(acting, namespace).make() == ""
    async with Client(await login(str(own))) as acting:
        for asked in (
            acting.get(SECRET, namespace, KEYS),
            acting.get(SECRET, namespace, FIRST),
            acting.list(SECRET, namespace),
            acting.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": namespace}}),
            acting.get(CONFIG_MAP, namespace, "llm-gateway"),
        ):
            with pytest.raises(ApiError) as refused:
                await asked
            assert refused.value.status == 403
    async with (
        runtime() as port,
        aiohttp.ClientSession() as session,
        gateway(own, tmp_path, namespace, "a", "--keys-of=llm-gateway", "--accept-seconds=0") as one,
    ):
        await put_endpoints(client, namespace, "qwen", port)
        await until(lambda: is_status(one.status("/readyz"), 200))
        key, model = await first_key(client, namespace), f"{namespace}/qwen"
        await until(partial(_answers, session, one, key, model))
        assert await ask(session, one, "llmservice-x", model) == 401
        one.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(one.process.wait, 90) == 0
        assert "can't be written" not in one.logs.read_text()
    usage = await client.get(CONFIG_MAP, namespace, USAGE)
    assert usage is not None and usage["data"]


async def _answers(session: aiohttp.ClientSession, one: object, key: str, model: str) -> bool:
    return bool(await ask(session, one, key, model) == 200)


async def test_models_are_launched_where_the_chart_says_so_by_keys_that_may(
    kubeconfig: Path, tmp_path: Path, client: Client, namespace: str
) -> None:
    """What the CRD's rules say reaches the client; the operator is not there, so nothing becomes ready."""
    await install(client, namespace, f"gateway.launch.namespaces={{{namespace}}}")
    operator = await kubeconfig_of(client, namespace, "llm", kubeconfig, tmp_path)
    own = await kubeconfig_of(client, namespace, "llm-gateway", kubeconfig, tmp_path)
    async with Client(await login(str(operator))) as acting:
        assert await maker(acting, namespace).make() == ""
    first = await first_key(client, namespace)
    key = new_key()
    secret: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": KEYS, "namespace": namespace}}
    await client.merge(secret, {"data": {"ops": encoded(record_of(key, [f"{namespace}/*"], launch=True))}})
    words = ("--keys-of=llm-gateway", f"--launch-namespaces={namespace}", "--accept-seconds=0")
    async with aiohttp.ClientSession() as session, gateway(own, tmp_path, namespace, "a", *words) as one:
        await until(lambda: is_status(one.status("/readyz"), 200))

        async def sent(key: str, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
            headers = {"Authorization": f"Bearer {key}"}
            async with session.request(method, one.url + path, json=body, headers=headers) as response:
                return response.status, await response.json()

        status, told = await sent(key, "POST", "/v1/models?wait_ready=false", {"model_name": "acme/tiny"})
        assert (status, told) == (200, {"model_uid": f"{namespace}.tiny"})
        made = await client.get(LLM_SERVICE, namespace, "tiny")
        assert made is not None and made["metadata"]["labels"] == {"llmservice.dev/launched": "xinference"}
        assert (await sent(first, "POST", "/v1/models", {"model_name": "acme/other"}))[0] == 403
        status, told = await sent(key, "POST", "/v1/models", {"model_name": "acme/tiny"})
        assert status == 409 and "model_uid" in told["detail"]
        status, told = await sent(key, "DELETE", f"/v1/models/{namespace}.tiny")
        assert status == 200 and await client.get(LLM_SERVICE, namespace, "tiny") is None
