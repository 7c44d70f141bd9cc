"""Two installations over the same namespaces, on the real API server: one has a service, the other leaves it alone."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from fake_controllers import Controllers  # type: ignore[import-not-found]
from live_world import CONFIG, NODES, edit, make, one_pass, settle, written  # type: ignore[import-not-found]
from process import Operator, operator  # type: ignore[import-not-found]
from test_operator_process import chart, install_rights, kubeconfig_of  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import DEPLOYMENT, EVENT, LEASE, LLM_SERVICE, NETWORK_POLICY, Json, Kind
from llmservice_kube.login import Access, login
from llmservice_operator.control.health import Health
from llmservice_operator.control.rivals import GONE_SECONDS, LEASE_NAME, LOOK_SECONDS
from llmservice_operator.control.work import Scope, Work
from llmservice_operator.facts.live import holds

NAMESPACES = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
PATIENCE = 90.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Installed:
    """An installation whose loops do not run; its Lease is renewed by hand."""

    def __init__(
        self, access: Access, client: Client, outside: Client, namespace: str, home: str, clock: Clock
    ) -> None:
        self.client, self.home, self._outside, self._renewals = client, home, outside, 0
        self.health = Health(1e9)
        config = dataclasses.replace(CONFIG, operator_namespace=home)
        self.work = Work(access, client, config, Scope((namespace,)), self.health, clock=clock)
        self.work._nodes.kinds = NODES

    async def renew(self) -> None:
        self._renewals += 1
        renewed = f"2026-01-01T00:00:{self._renewals:02}.000000Z"
        spec = {"holderIdentity": "pod", "renewTime": renewed, "leaseDurationSeconds": 15}
        metadata = {"name": LEASE_NAME, "namespace": self.home}
        body = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
        await self._outside.send("apply", LEASE, LEASE.path(self.home, LEASE_NAME), {"fieldManager": "test"}, body)


@asynccontextmanager
async def installed(
    access: Access, client: Client, namespace: str, name: str, clock: Clock
) -> AsyncIterator[Installed]:
    home = await home_of(client, namespace, name)
    async with Client(access) as own:
        yield Installed(access, own, client, namespace, home, clock)


async def home_of(client: Client, namespace: str, name: str) -> str:
    home = f"{namespace}-{name}"
    body: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}}
    await client.send("create", NAMESPACES, NAMESPACES.path(), body=body)
    return home


async def look(installation: Installed, others: list[Installed], clock: Clock) -> None:
    """Time passes, the others renew their Leases, and everything is looked at again."""
    clock.now += LOOK_SECONDS
    for other in others:
        await other.renew()
    await installation.work.rivals.look()
    await one_pass(installation.work)


async def claim(client: Client, key: tuple[str, str]) -> str:
    live = await client.get(LLM_SERVICE, *key)
    assert live is not None
    return str(live["status"]["installation"])


async def said(client: Client, namespace: str) -> list[str]:
    found = (await client.list(EVENT, namespace)).items
    return [event["message"] for event in found if event["reason"] == "OtherInstallation"]


async def test_the_second_says_so_and_does_nothing_until_the_first_is_gone(
    access: Access, client: Client, namespace: str
) -> None:
    clock, key = Clock(), await make(client, namespace)
    async with (
        installed(access, client, namespace, "a", clock) as first,
        installed(access, client, namespace, "b", clock) as second,
    ):
        await settle(first.work, client, namespace)
        assert await claim(client, key) == first.home
        for _ in range(3):
            await look(second, [first], clock)
        await edit(client, key, replicas=2)
        new = await make(client, namespace, "new")
        await look(second, [first], clock)
        assert {
            verb: n for (verb, kind), n in second.client.counts.items() if kind != "Event" and verb == "apply"
        } == {}
        assert written(second.client) == 2  # an Event for each of the two
        assert len(await said(client, namespace)) == 2
        assert f"the operator in {first.home} looks after services" in second.health.problems["installation"]
        await settle(first.work, client, namespace)
        assert [await claim(client, one) for one in (key, new)] == [first.home] * 2
        assert await policy_admits(client, key, first.home)
        for _ in range(int(GONE_SECONDS / LOOK_SECONDS)):
            assert not await policy_admits(client, key, second.home)
            await look(second, [], clock)
        await settle(second.work, client, namespace)
        assert [await claim(client, one) for one in (key, new)] == [second.home] * 2
        assert await policy_admits(client, key, second.home)
        assert second.health.ready
        before = written(first.client)
        await first.renew()  # it comes back, and finds another in its place
        for _ in range(3):
            await look(first, [second], clock)
        assert written(first.client) - before == 2  # an Event for each
        assert [await claim(client, one) for one in (key, new)] == [second.home] * 2
        assert not first.health.ready


async def policy_admits(client: Client, key: tuple[str, str], home: str) -> bool:
    live = await client.get(NETWORK_POLICY, *key)
    return live is not None and home in str(live["spec"])


async def test_of_two_that_see_a_new_service_at_once_one_has_it(access: Access, client: Client, namespace: str) -> None:
    clock, keys = Clock(), [await make(client, namespace, f"s{number}") for number in range(4)]
    async with (
        installed(access, client, namespace, "a", clock) as first,
        installed(access, client, namespace, "b", clock) as second,
    ):
        both = [first, second]
        for one in both:
            await one.work.relist()
        for key in keys:  # each has written children, and reports from what it knows
            for _ in range(4):
                await asyncio.gather(*(one.work.reconcile(key) for one in both))
        for one in both * 2:
            await look(one, both, clock)
        before = [written(one.client) for one in both]
        for one in both * 3:
            await look(one, both, clock)
        assert [written(one.client) for one in both] == before
        for key in keys:
            assert await policy_admits(client, key, await claim(client, key))


async def test_a_reinstalled_one_is_the_same_one(access: Access, client: Client, namespace: str) -> None:
    clock, key = Clock(), await make(client, namespace)
    async with installed(access, client, namespace, "a", clock) as first:
        await settle(first.work, client, namespace)
        async with Client(access) as own:
            again = Installed(access, own, client, namespace, first.home, clock)
            await edit(client, key, replicas=2)
            await settle(again.work, client, namespace)
            live = await client.get(DEPLOYMENT, *key)
            assert live is not None and live["spec"]["replicas"] == 2


async def test_the_chart_lets_others_see_that_an_installation_lives(
    kubeconfig: Path, tmp_path: Path, access: Access, client: Client, namespace: str
) -> None:
    """Also where both have rights in some namespaces only."""
    homes, limited = [], []
    for name in "ab":
        homes.append(await home_of(client, namespace, name))
        rights = chart(tmp_path, homes[-1], f"watchNamespaces={{{namespace}}}", "readNodes=false")
        account = await install_rights(client, rights)
        folder = tmp_path / name
        folder.mkdir()
        limited.append(await kubeconfig_of(client, kubeconfig, folder, homes[-1], account))
    async with Client(await login(str(limited[1]))) as second:
        first = Installed(access, client, client, namespace, homes[0], Clock())
        await first.renew()
        seen = await second.get(LEASE, homes[0], LEASE_NAME)
        assert seen is not None and seen["spec"]["holderIdentity"] == "pod"
        seen["spec"]["holderIdentity"] = "thief"
        with pytest.raises(ApiError, match="403"):
            await second.replace(seen)


async def test_two_operators_as_processes(
    kubeconfig: Path, tmp_path: Path, access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace)
    homes = [await home_of(client, namespace, name) for name in "ab"]
    here = f'images: [{{image: "runtime:1", engines: [LlamaCpp]}}]\nnamespaces: [{namespace}]\nreadNodes: false\n'

    def start(name: str, home: str) -> AbstractAsyncContextManager[Operator]:
        return operator(kubeconfig, tmp_path, f"--namespace={home}", name=name, installation=here)  # type: ignore[no-any-return]

    async with Controllers(access).running(), start("a", homes[0]) as first:
        await until(lambda: ready(client, key))
        async with start("b", homes[1]) as second:
            await second.until("/readyz", f"the operator in {homes[0]} looks after", PATIENCE)
            assert (await first.get("/readyz"))[0] == 200
            metrics = await second.metrics()
            assert metrics[f'llmservice_operator_services_of_others{{installation="{homes[0]}"}}'] == 1
            assert not [name for name in metrics if 'verb="apply' in name]
            await until(lambda: events(client, namespace, 1))
            os.kill(first.process.pid, signal.SIGKILL)
            await until(lambda: claimed(client, key, homes[1]), GONE_SECONDS + PATIENCE)
            await second.until("/readyz", "leading", PATIENCE)


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.1)


async def events(client: Client, namespace: str, count: int) -> bool:
    return len(await said(client, namespace)) == count


async def claimed(client: Client, key: tuple[str, str], home: str) -> bool:
    return await claim(client, key) == home


async def ready(client: Client, key: tuple[str, str]) -> bool:
    live = await client.get(LLM_SERVICE, *key)
    return live is not None and holds(live, "Ready")
