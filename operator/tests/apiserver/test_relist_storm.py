"""The whole term on the real API server, with lists all the time beside the watches: what is deleted stays deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from live_world import make, work_in, written  # type: ignore[import-not-found]
from wire import wire  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import LLM_SERVICE, SERVICE, Json, Kind
from llmservice_kube.login import login
from llmservice_operator.control.work import Work

NUMBER = 30


class Ghosts:
    """Services that were in the cache again after they had left it."""

    def __init__(self, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = set[str]()
        self._gone = set[str]()
        cache = work.cache
        take, left = cache._take, cache._left

        def takes(kind: Kind, event: str | None, obj: Json, text: Callable[[], bytes]) -> tuple[str, str] | None:
            key = take(kind, event, obj, text)
            if kind == LLM_SERVICE and (uid := cache.uid(kind, *key) if key else None) in self._gone:
                self.seen.add(str(uid))
            return key

        def leaves(kind: Kind, uid: str) -> None:
            self._gone.add(uid)
            left(kind, uid)

        monkeypatch.setattr(cache, "_take", takes)
        monkeypatch.setattr(cache, "_left", leaves)


class SlowLists(Client):
    """Its lists of services are old when they come."""

    async def send(
        self,
        verb: str,
        kind: Kind,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Json:
        answer = await super().send(verb, kind, path, query, body)
        if verb == "list" and kind == LLM_SERVICE:
            await asyncio.sleep(0.5)
        return answer


async def test_services_that_go_while_everything_is_listed_over_and_over_get_nothing_any_more(
    kubeconfig: Path, client: Client, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wire(kubeconfig, tmp_path) as (line, through), SlowLists(access := await login(str(through))) as own:
        work = work_in(access, own, namespace)
        ghosts = Ghosts(work, monkeypatch)
        term = asyncio.create_task(work.run())
        storm = asyncio.create_task(_over_and_over(work))
        try:
            keys = [await make(client, namespace, f"s{number}") for number in range(NUMBER)]
            async with asyncio.timeout(120):
                for _, name in keys:
                    while await client.get(SERVICE, namespace, name) is None:  # noqa: ASYNC110 - seen from outside
                        await asyncio.sleep(0.02)
                    live = await client.get(LLM_SERVICE, namespace, name)
                    assert live is not None
                    assert await client.delete(LLM_SERVICE, namespace, name, live["metadata"]["uid"])
                while work.cache.services() or work.passes.queue._working or len(work.passes.queue):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            before = written(own)
            for _ in range(5):
                await work.relist()
            assert ghosts.seen == set()
            assert (written(own), work.cache.services()) == (before, [])
        finally:
            line.cut()
            for task in (storm, term):
                task.cancel()
            await asyncio.wait([storm, term])


async def _over_and_over(work: Work) -> None:
    while True:
        await work.relist()
