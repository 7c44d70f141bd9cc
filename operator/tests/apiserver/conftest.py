"""A real etcd and kube-apiserver for this folder's tests, with the CRD in it; a namespace of its own for each test."""

from __future__ import annotations

import asyncio
import gc
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from llmservice_api.crd import custom_resource_definition
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LLM_SERVICE, Json, Kind
from llmservice_kube.login import Access, login

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "operator/bench"), str(ROOT / "e2e")]
CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.apiserver)


@pytest.fixture(autouse=True)
def _told_in_its_own_test() -> Iterator[None]:
    """What a test left open warns when it is collected: let that be here, not in the test that happens to run then."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from cluster.api import api_only

    with api_only(tmp_path_factory.mktemp("api") / "server") as path:
        asyncio.run(_install(path))
        yield path


async def _install(kubeconfig: Path) -> None:
    async with Client(await login(str(kubeconfig))) as client:
        await client.send("create", CRD, CRD.path(), body=custom_resource_definition())
        async with asyncio.timeout(30):
            while not await _served(client):  # noqa: ASYNC110 - nothing tells when a kind is served
                await asyncio.sleep(0.1)


async def _served(client: Client) -> bool:
    try:
        await client.list(LLM_SERVICE)
    except ApiError as error:
        if error.missing:
            return False
        raise
    return True


@pytest.fixture
async def access(kubeconfig: Path) -> Access:
    return await login(str(kubeconfig))


@pytest.fixture
async def client(access: Access) -> AsyncIterator[Client]:
    async with Client(access) as found:
        yield found


@pytest.fixture
async def namespace(client: Client) -> str:
    name = f"t{uuid.uuid4().hex[:8]}"
    body: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await client.send("create", NAMESPACE, NAMESPACE.path(), body=body)
    return name
