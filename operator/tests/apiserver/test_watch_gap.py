"""kopf's worst trap on the real API server: its watches were cut, and the history of the time in between is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
from fake_controllers import Controllers  # type: ignore[import-not-found]
from live_world import make, work_in  # type: ignore[import-not-found]
from wire import wire  # type: ignore[import-not-found]

from llmservice_api.crd import custom_resource_definition
from llmservice_api.labels import NAME
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LLM_SERVICE, OWNED, SERVICE, Kind
from llmservice_kube.login import login
from llmservice_operator.control.work import Work
from llmservice_operator.facts.live import holds

CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
PATIENCE = 90.0


async def forget_history(client: Client, folder: Path) -> None:
    """Compact etcd up to now and start the API server anew: watches from before get 410."""
    from cluster.layout import State
    from cluster.processes import pid_of, start, stop

    state = State(folder)
    commands = {name: _command(pid_of(state, name)) for name in ("apiserver", "etcd")}
    revision = (await client.list(LLM_SERVICE)).resource_version
    url = next(part.partition("=")[2] for part in commands["etcd"] if part.startswith("--listen-client-urls="))
    async with aiohttp.ClientSession() as session:
        body = {"revision": revision, "physical": True}
        async with session.post(f"{url}/v3/kv/compaction", json=body) as answer:
            assert answer.status == 200, await answer.text()
    stop(state, "apiserver")
    start(state, "apiserver", commands["apiserver"])
    await until(lambda: _answers(client))


def _command(pid: int | None) -> list[str]:
    return [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]


async def _answers(client: Client) -> bool:
    try:
        await client.list(LLM_SERVICE)
    except ApiError:
        return False
    return True


@asynccontextmanager
async def working(kubeconfig: Path) -> AsyncIterator[Work]:
    """The work without the election, which would rightly be lost with the wire."""
    access = await login(str(kubeconfig))
    async with Client(access) as client:
        work = work_in(access, client, "default")
        task = asyncio.create_task(work.run())
        try:
            yield work
        finally:
            task.cancel()
            await asyncio.wait([task])


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await found():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.1)


async def test_what_went_away_while_the_watches_were_cut_is_noticed_without_any_history(tmp_path: Path) -> None:
    from cluster.api import api_only

    with api_only(tmp_path / "server") as kubeconfig:
        access = await login(str(kubeconfig))
        async with Client(access) as client, wire(kubeconfig, tmp_path) as (line, through):
            await client.send("create", CRD, CRD.path(), body=custom_resource_definition())
            await until(lambda: _answers(client))
            async with working(through) as work:
                async with Controllers(access).running():
                    for key in (await make(client, "default", "kept"), await make(client, "default", "gone")):
                        await until(partial(_ready, client, key))
                line.cut()
                await _delete(client, LLM_SERVICE, "gone")
                for kind in OWNED:  # as the garbage collector would
                    for child in (await client.list(kind, "default", labels=f"{NAME}=gone")).items:
                        await _delete(client, kind, child["metadata"]["name"])
                await _delete(client, SERVICE, "kept")
                await forget_history(client, tmp_path / "server")
                line.whole = True
                await until(partial(_there, client, SERVICE, "kept"))
                assert work.cache.services() == [("default", "kept")]
                left = [kind.kind for kind in OWNED if (await client.list(kind, labels=f"{NAME}=gone")).items]
                assert left == [], "nothing is made for a service that is gone"
                line.cut()  # no goodbyes over TLS, which kopf's loop would not wait for


async def _ready(client: Client, key: tuple[str, str]) -> bool:
    live = await client.get(LLM_SERVICE, *key)
    return live is not None and holds(live, "Ready")


async def _there(client: Client, kind: Kind, name: str) -> bool:
    return await client.get(kind, "default", name) is not None


async def _delete(client: Client, kind: Kind, name: str) -> None:
    path = kind.path("default", name)
    await client.send("delete", kind, path, body={"gracePeriodSeconds": 0, "propagationPolicy": "Background"})
