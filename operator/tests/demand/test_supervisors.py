"""Replicas are asked what they do, over and over, and only those that are there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from llmservice_operator.control import supervisors as module
from llmservice_operator.control.supervisors import Supervisors
from llmservice_operator.demand.replicas import Replica, costs, kv_used, requests, work
from llmservice_scaling.signals import Validity

ONE, TWO = (Replica(f"u{n}", f"p{n}", f"127.0.0.{n}", ready=True) for n in (1, 2))


class Pods:
    """Supervisors at several addresses of this machine; each answers what `answers` says of it."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: asyncio.Queue[str] = asyncio.Queue()

    async def status(self, request: web.Request) -> web.Response:
        host = request.host.partition(":")[0]
        self.asked.put_nowait(host)
        answer = self.answers.get(host)
        if isinstance(answer, str):
            return web.Response(text=answer)
        return web.json_response(answer) if answer is not None else web.Response(status=200, text="no JSON")


@contextlib.asynccontextmanager
async def running(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisors]:
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    app = web.Application()
    app.router.add_get("/status", pods.status)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)
    await site.start()
    supervisors = Supervisors(port=runner.addresses[0][1])
    task = asyncio.create_task(supervisors.run())
    try:
        yield supervisors
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.cleanup()


async def until(pods: Pods, good: Any) -> None:
    """As many questions as it takes."""
    async with asyncio.timeout(30):
        while not good():
            await pods.asked.get()
            await asyncio.sleep(0)


async def test_each_is_asked_again_and_again_until_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = Pods()
    pods.answers = {"127.0.0.1": {"running": 2, "waiting": 1, "kv_used": 0.5}, "127.0.0.2": {"running": 0}}
    async with running(pods, monkeypatch) as supervisors:
        supervisors.keep("apps/qwen", (ONE, TWO))
        await until(pods, lambda: "u1" in supervisors.told and supervisors.complaint((ONE, TWO)))
        assert supervisors.told["u1"].requests == 3 and "u2" not in supervisors.told
        assert supervisors.complaint((ONE, TWO)) == (
            "p2 does not tell what it does: it does not tell how many requests it has"
        )
        pods.answers["127.0.0.2"] = {"running": 1, "waiting": 0, "kv_used": None}
        await until(pods, lambda: "u2" in supervisors.told)
        assert supervisors.complaint((ONE, TWO)) == ""
        supervisors.keep("apps/qwen", (TWO,))
        assert "u1" not in supervisors.told
        supervisors.keep("apps/qwen", ())
        assert supervisors.told == {}


@pytest.mark.parametrize("garbage", ["[" * 100_000, '{"running":' * 50_000, "9" * 5000, "NaN"])
async def test_what_one_answers_costs_no_other(monkeypatch: pytest.MonkeyPatch, garbage: str) -> None:
    """Who answers there is the tenant's."""
    pods = Pods()
    pods.answers = {"127.0.0.1": garbage, "127.0.0.2": {"running": 1, "waiting": 0}}
    async with running(pods, monkeypatch) as supervisors:
        supervisors.keep("apps/qwen", (ONE, TWO))
        await until(pods, lambda: "u2" in supervisors.told and supervisors.complaint((ONE,)))
        pods.answers["127.0.0.1"] = {"running": 2, "waiting": 0}
        await until(pods, lambda: "u1" in supervisors.told)


async def test_one_that_must_be_known_now_is_asked_now(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = Pods()
    pods.answers = {"127.0.0.1": {"running": 1, "waiting": 0}}
    async with running(pods, monkeypatch) as supervisors:
        supervisors.keep("apps/qwen", (ONE,))
        await until(pods, lambda: "u1" in supervisors.told)
        monkeypatch.setattr(module, "READ_SECONDS", 3600.0)
        pods.answers["127.0.0.1"] = {"running": 7, "waiting": 0}
        await supervisors.read_now((ONE,))
        assert supervisors.told["u1"].running == 7


async def test_who_does_not_answer_before_replicas_are_ended_is_not_taken_for_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pods = Pods()
    pods.answers = {one.address: {"running": 0, "waiting": 0} for one in (ONE, TWO)}
    async with running(pods, monkeypatch) as supervisors:
        supervisors.keep("apps/qwen", (ONE, TWO))
        await until(pods, lambda: len(supervisors.told) == 2)
        supervisors.polls = False
        del pods.answers[ONE.address]
        told = await supervisors.read_now((ONE, TWO))
        assert set(told) == {"u2"} and costs((ONE, TWO), told) == {"p1": "1000000"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"running": True, "waiting": 0},
        {"running": -1, "waiting": 0},
        {"running": 1.5, "waiting": 0},
        {"running": 10**9, "waiting": 0},
        {"running": 1, "waiting": 0, "kv_used": "much"},
        {"running": 1, "waiting": 0, "kv_used": 2},
        {"running": 1, "waiting": 0, "kv_used": float("nan")},
        {"running": 1, "waiting": 0, "seconds_since_work": "long"},
        {"running": 1, "waiting": 0, "seconds_since_work": float("nan")},
    ],
)
def test_what_a_tenants_pod_answers_is_checked(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"it does not tell|is no share|is no time"):
        work(body, 0.0)


def test_what_engines_have_is_known_in_part_until_each_told() -> None:
    told = {"u1": work({"running": 2, "waiting": 1, "kv_used": 0.5}, 10.0)}
    reading = requests((ONE, TWO), told, 10.0)
    assert (reading.value, reading.validity(10.0)) == (3, Validity.PARTIAL)
    assert requests((ONE, TWO), {}, 10.0).validity(10.0) is Validity.MISSING
    assert requests((), {}, 10.0).validity(10.0) is Validity.VALID, "nobody is there, so nothing runs"
    told["u2"] = work({"running": 0, "waiting": 0, "kv_used": None}, 12.0)
    reading = requests((ONE, TWO), told, 12.0)
    assert (reading.value, reading.at, reading.validity(12.0)) == (3, 10.0, Validity.VALID)
    used = kv_used((ONE, TWO), told)
    assert used is not None and (used.value, used.at) == (0.5, 10.0)
    assert kv_used((TWO,), told) is None


def test_costs_are_written_where_they_differ_and_what_is_not_known_is_dear() -> None:
    told = {"u1": work({"running": 2, "waiting": 1}, 0.0), "u2": work({"running": 0, "waiting": 0}, 0.0)}
    assert costs((ONE, TWO), told) == {"p1": "3"}
    told["u2"] = work({"running": 0, "waiting": 0, "seconds_since_work": 0.7}, 0.0)
    assert costs((ONE, TWO), told) == {"p1": "3", "p2": "1"}, "it has short requests, and none at this moment"
    told["u2"] = work({"running": 0, "waiting": 0, "seconds_since_work": 60}, 0.0)
    costly = Replica("u2", "p2", "127.0.0.2", ready=True, cost="5")
    assert costs((costly,), told) == {"p2": "0"}
    assert costs((ONE,), {}) == {"p1": "1000000"}
    starting = Replica("u3", "p3", cost="4")
    assert costs((starting,), told) == {"p3": "0"}
