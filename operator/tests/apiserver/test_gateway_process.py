"""The gateway as the process that it is in a cluster, on the real API server."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from live_world import make  # type: ignore[import-not-found]
from wire import wire  # type: ignore[import-not-found]

from llmservice_api.demand_lease import ServiceDemand, decode
from llmservice_api.labels import DEMAND
from llmservice_kube.client import Client
from llmservice_kube.kinds import ENDPOINT_SLICE, LEASE, LLM_SERVICE, SERVICE, Json

PATIENCE = 90.0


class Process:
    """One gateway. `logs` has what it printed."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, inner: int, logs: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.inner = f"http://127.0.0.1:{inner}"
        self.logs = logs

    async def status(self, path: str) -> int:
        try:
            async with aiohttp.ClientSession() as session, session.get(self.inner + path) as response:
                return response.status
        except aiohttp.ClientError:
            return 0

    async def chat(self, session: aiohttp.ClientSession, model: str, base: str = "/v1") -> tuple[int, Any]:
        body = {"model": model, "messages": []}
        async with session.post(f"{self.url}{base}/chat/completions", json=body) as response:
            return response.status, await response.json()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def begun(words: Sequence[str], logs: Path) -> subprocess.Popen[bytes]:
    with logs.open("wb") as out:
        return subprocess.Popen([sys.executable, "-m", "llmservice_gateway", *words], stdout=out, stderr=out)


@asynccontextmanager
async def gateway(kubeconfig: Path, folder: Path, namespace: str, name: str, *more: str) -> AsyncIterator[Process]:
    port, inner = free_port(), free_port()
    logs = folder / f"{name}.log"
    words = (
        f"--kubeconfig={kubeconfig}", f"--namespace={namespace}", f"--watch-namespaces={namespace}", f"--name={name}",
        "--labels=app.kubernetes.io/instance=x", "--host=127.0.0.1", f"--port={port}", f"--internal-port={inner}",
        *more,
    )  # fmt: skip
    process = begun(words, logs)
    try:
        yield Process(process, port, inner, logs)
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def runtime() -> AsyncIterator[int]:
    """A scripted engine on a port of this machine."""

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        usage = {"prompt_tokens": 5, "completion_tokens": 7}
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        said = {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
        return web.json_response(said)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address(), 0).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def until(found: Callable[[], Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        while not (answer := await found()):  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.05)
    return answer


async def put_endpoints(client: Client, namespace: str, name: str, port: int, pods: int = 1) -> None:
    """What the controller makes of a Service and its pods. No slice may have a loopback address: the machine's own."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"llmservice.dev/name": name}},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }
    await client.create(service)
    made = await client.get(SERVICE, namespace, name)
    assert made is not None
    owner = {"apiVersion": "v1", "kind": "Service", "name": name, "uid": made["metadata"]["uid"], "controller": True}
    labels = {
        "llmservice.dev/name": name,
        "kubernetes.io/service-name": name,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    target = {"kind": "Pod", "name": f"{name}-1", "namespace": namespace}
    body: Json = {
        "apiVersion": ENDPOINT_SLICE.api_version,
        "kind": ENDPOINT_SLICE.kind,
        "metadata": {"name": f"{name}-x", "namespace": namespace, "labels": labels, "ownerReferences": [owner]},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address()], "conditions": {"ready": True}, "targetRef": target}] * pods,
    }
    await client.apply(body)


def address() -> str:
    """One of this machine's that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.connect(("192.0.2.1", 9))
        return str(found.getsockname()[0])


async def told(client: Client, namespace: str, name: str, service: str) -> ServiceDemand | None:
    lease = await client.get(LEASE, namespace, name)
    text = lease["metadata"]["annotations"][DEMAND] if lease else "{}"
    return decode(text).services.get(service)


async def test_it_serves_holds_tells_and_ends(kubeconfig: Path, tmp_path: Path, client: Client, namespace: str) -> None:
    aliases = tmp_path / "aliases.yaml"
    aliases.write_text(f"aliases: {{gpt-4o: {namespace}/qwen}}")
    await make(client, namespace)
    async with (
        runtime() as port,
        aiohttp.ClientSession() as session,
        gateway(kubeconfig, tmp_path, namespace, "a", f"--aliases={aliases}", "--accept-seconds=15") as one,
        gateway(kubeconfig, tmp_path, namespace, "b") as two,
    ):
        for each in (one, two):
            await until(partial(_ready, each))
        asked = [
            asyncio.create_task(one.chat(session, f"{namespace}/qwen")),
            asyncio.create_task(two.chat(session, "qwen", f"/{namespace}/qwen/v1")),
        ]

        async def both_held() -> bool:
            found = [await told(client, namespace, name, f"{namespace}/qwen") for name in ("a", "b")]
            return all(each is not None and each.held == 1 for each in found)

        await until(both_held)

        async def all_counted() -> bool:
            async with session.get(f"{one.inner}/scaling/{namespace}/qwen") as response:
                return bool(await response.json() == {"queueDepth": 2, "held": 2, "inFlight": 0})

        await until(all_counted)
        await put_endpoints(client, namespace, "qwen", port)
        answers = await asyncio.wait_for(asyncio.gather(*asked), PATIENCE)
        assert [status for status, _ in answers] == [200, 200]
        status, body = await one.chat(session, "gpt-4o")
        assert (status, body["model"]) == (200, f"{namespace}/qwen")
        turn = {"role": "user", "content": "Hi"}
        for route, fields in (("messages", {"max_tokens": 9, "messages": [turn]}), ("responses", {"input": [turn]})):
            async with session.post(f"{two.url}/v1/{route}", json={"model": "qwen", **fields}) as response:
                assert response.status == 200 and "Hello" in await response.text()

        async def counted() -> bool:
            found = await told(client, namespace, "a", f"{namespace}/qwen")
            return found is not None and (found.held, found.arrivals, found.answered_tokens) == (0, 2, 14)

        await until(counted)
        one.process.send_signal(signal.SIGTERM)
        await until(lambda: _is(one.status("/readyz"), 503))
        async with aiohttp.ClientSession() as late:
            assert (await one.chat(late, f"{namespace}/qwen"))[0] == 200
        assert await asyncio.to_thread(one.process.wait, PATIENCE) == 0
        assert await client.get(LEASE, namespace, "a") is None and await client.get(LEASE, namespace, "b") is not None
        lines = [json.loads(line) for line in one.logs.read_text().splitlines() if line.startswith("{")]
        assert [line["status"] for line in lines if line["method"] == "POST"] == [200, 200, 200]
        assert all(line["replica"] == "qwen-1" for line in lines if line["method"] == "POST")


async def _ready(each: Process) -> bool:
    return await each.status("/readyz") == 200


async def _is(asked: Any, wanted: Any) -> bool:
    return bool(await asked == wanted)


@pytest.mark.parametrize("gone", ["service", "slice"])
async def test_it_goes_on_without_the_server_and_learns_what_went_meanwhile(
    kubeconfig: Path, tmp_path: Path, client: Client, namespace: str, gone: str
) -> None:
    await make(client, namespace)
    async with (
        runtime() as port,
        wire(kubeconfig, tmp_path) as (line, through),
        aiohttp.ClientSession() as session,
        gateway(through, tmp_path, namespace, "a") as one,
    ):
        await put_endpoints(client, namespace, "qwen", port)
        await until(lambda: _is(one.status("/readyz"), 200))
        assert (await one.chat(session, f"{namespace}/qwen"))[0] == 200
        line.cut()
        kind, name = (LLM_SERVICE, "qwen") if gone == "service" else (ENDPOINT_SLICE, "qwen-x")
        await client.send("delete", kind, kind.path(namespace, name))
        for _ in range(3):
            assert (await one.chat(session, f"{namespace}/qwen"))[0] == 200, "it knows what it knew"
        assert await one.status("/readyz") == 200
        line.whole = True
        if gone == "service":
            await until(lambda: _refused(one, session, f"{namespace}/qwen"))
        else:

            async def none() -> bool:
                async with session.get(f"{one.url}/v1/models") as response:
                    return not (await response.json())["data"][0]["ready"]

            await until(none)
        line.cut()


async def _refused(one: Process, session: aiohttp.ClientSession, model: str) -> bool:
    return (await one.chat(session, model))[0] == 404
