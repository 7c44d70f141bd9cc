"""Replicas are asked once for each load; what they say reaches status, and nothing else of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from llmservice_api.labels import COMPONENT, REVISION, RUNTIME
from llmservice_operator.control import loads as module
from llmservice_operator.control.loads import LARGEST, Loads, ask_supervisor

KEY = ("apps", "demo")
LOAD = {"seconds": 1.5, "phases": {"Loading": 1.0}, "predicted": {}, "measured": {}, "findings": []}


def pod(uid: str = "p-1", ready: bool = True, restarts: int = 0) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": uid, "uid": uid, "labels": {COMPONENT: RUNTIME, REVISION: "demo-1"}},
        "status": {
            "podIP": "fd00::1",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "runtime", "restartCount": restarts}],
        },
    }


class Asked:
    """Answers by a list; the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.urls: list[str] = []
        self.news: asyncio.Queue[Any] = asyncio.Queue()
        self.loads = Loads(self.news.put_nowait, self._ask)

    async def _ask(self, url: str) -> dict[str, Any]:
        self.urls.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"load": answer}

    async def __aenter__(self) -> Asked:
        self._task = asyncio.ensure_future(self.loads.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_a_replica_is_asked_once_when_it_is_ready_and_again_after_a_restart() -> None:
    async with Asked(LOAD) as asked:
        asked.loads.look(KEY, [pod(ready=False), {"kind": "Job", "metadata": {"name": "j", "uid": "j"}}])
        asked.loads.look(KEY, [pod()])
        assert await asked.news.get() == KEY
        assert asked.loads.of(KEY) == {"p-1": LOAD} and asked.loads.of(("apps", "other")) == {}
        for _ in range(3):
            asked.loads.look(KEY, [pod()])
        asked.loads.look(KEY, [pod(restarts=1)])
        assert await asked.news.get() == KEY
        assert asked.urls == ["http://[fd00::1]:8001/status"] * 2 and asked.news.empty()


async def test_one_that_has_not_measured_yet_or_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0, 0.0))
    async with Asked(None, OSError("refused"), TimeoutError(), LOAD) as asked:
        asked.loads.look(KEY, [pod()])
        assert await asked.news.get() == KEY
        assert len(asked.urls) == 4


async def test_what_is_gone_is_forgotten() -> None:
    async with Asked(LOAD) as asked:
        asked.loads.look(KEY, [pod("p-1"), pod("p-2")])
        for _ in range(2):
            await asked.news.get()
        asked.loads.look(KEY, [pod("p-2")])
        assert set(asked.loads.of(KEY)) == {"p-2"}
        asked.loads.forget(KEY)
        assert asked.loads.of(KEY) == {}


@pytest.mark.parametrize("body", ["[]", "{", "x" * (LARGEST + 10), json.dumps({"a": "b" * LARGEST})])
async def test_who_answers_something_else_is_not_believed(body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_get("/status", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        with pytest.raises(ValueError):
            await ask_supervisor(f"http://127.0.0.1:{port}/status")
    finally:
        await runner.cleanup()
