"""Keys with the rights that the chart gives, and no others: the operator makes the first, the gateway reads all."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
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

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import CONFIG_MAP, SECRET, SERVICE_ACCOUNT, Json, Kind
from llmservice_kube.login import login

ROOT = Path(__file__).resolve().parents[3]
RBAC = "rbac.authorization.k8s.io"
KINDS = {
    "ServiceAccount": SERVICE_ACCOUNT,
    "ConfigMap": CONFIG_MAP,
    "Role": Kind(RBAC, "v1", "Role", "roles"),
    "RoleBinding": Kind(RBAC, "v1", "RoleBinding", "rolebindings"),
}


def rendered(namespace: str, *templates: str) -> list[Json]:
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
    done = subprocess.run([*helm, *words, *shown], capture_output=True, text=True, check=True)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


async def install(client: Client, namespace: str) -> None:
    account: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "llm", "namespace": namespace}}
    for obj in (account, *await asyncio.to_thread(rendered, namespace, "rbac", "config")):
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
