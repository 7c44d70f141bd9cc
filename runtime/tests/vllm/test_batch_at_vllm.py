"""Batch work at vLLM: behind by its priority, in bounds, and beside the queue of live requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pictures.drawn import file, url  # type: ignore[import-not-found]
from PIL import Image
from test_around_vllm import MESSAGES, ask, gate, served, whole  # type: ignore[import-not-found]
from test_around_vllm import Behind as Application
from test_command import AROUND, SETTINGS, option  # type: ignore[import-not-found]

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.vllm.serve.behind import Behind
from llmservice_runtime.engines.vllm.serve.command import command
from llmservice_runtime.engines.vllm.serve.gate import Door, Gate
from llmservice_runtime.engines.vllm.serve.served import PIXELS
from llmservice_runtime.openai.pictures.looking import Looking
from llmservice_runtime.wire.priority import BATCH, HEADER

CHAT = "/v1/chat/completions"
MOST = 12
SAID: Mapping[str, str] = {HEADER: BATCH}


def scheduler(policy: str = "priority", most: int | None = 12) -> Any:
    return SimpleNamespace(max_num_seqs=4, policy=policy, max_num_queued_reqs=most)


def through(application: Any, rules: Any) -> Gate:
    return Gate(application, Door(served=served(behind=Behind(rules, MOST))))


async def settled() -> None:
    """All has run that does not wait for an event."""
    for _ in range(50):
        await asyncio.sleep(0)


async def have(application: Any, count: int) -> None:
    while len(application.bodies) < count:  # noqa: ASYNC110 - the application rings no bell
        await asyncio.sleep(0)


def test_vllm_goes_by_priority_unless_the_user_says_otherwise() -> None:
    assert isinstance(SETTINGS, RuntimeSettings)
    assert option(command(SETTINGS, AROUND), "--scheduling-policy") == "priority"
    argv = command(replace(SETTINGS, engine_args=("--scheduling-policy=fcfs",)), AROUND)
    assert option(argv, "--scheduling-policy") == "fcfs"


@pytest.mark.parametrize(("policy", "added"), [("priority", {"priority": 1}), ("fcfs", {})])
async def test_only_batch_requests_are_written_anew_with_a_priority(policy: str, added: Any) -> None:
    application = Application(*whole({}))
    gated = through(application, scheduler(policy))
    for headers in ({}, SAID, {HEADER: "live"}):
        assert (await ask(gated, CHAT, {"messages": MESSAGES}, **headers))[0] == 200
    plain = application.bodies[0]
    assert application.bodies == [plain, {**plain, **added}, plain]


async def test_a_client_may_not_say_a_priority_in_the_body() -> None:
    status, _, raw = await ask(gate(Application()), CHAT, {"messages": MESSAGES, "priority": -1})
    assert status == 400 and HEADER.encode() in raw


async def test_some_places_are_left_and_the_queue_of_live_requests_is_theirs() -> None:
    application, rules = Application(*whole({})), scheduler()
    application.hold = asyncio.Event()
    gated = through(application, rules)
    work = [asyncio.ensure_future(ask(gated, CHAT, {"messages": MESSAGES}, **SAID)) for _ in range(5)]
    async with asyncio.timeout(20):
        await have(application, 3)
        await settled()
        assert len(application.bodies) == 3 and rules.max_num_queued_reqs == 15
        live = asyncio.ensure_future(ask(gated, CHAT, {"messages": MESSAGES}))
        await have(application, 4)
        application.hold.set()
        await asyncio.gather(*work, live)
    assert len(application.bodies) == 6 and rules.max_num_queued_reqs == 12


@pytest.mark.parametrize(
    ("path", "body", "answers"),
    [
        (CHAT, {"messages": MESSAGES, "n": 3}, 3),
        ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 1}, 2),
        ("/v1/completions", {"prompt": ["a", "b"], "n": 2, "max_tokens": 1}, 4),
        ("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 1}, 1),
    ],
)
async def test_each_answer_of_a_request_has_a_place(path: str, body: Any, answers: int) -> None:
    application, rules = Application(*whole({})), scheduler()
    application.hold = asyncio.Event()
    gated = through(application, rules)
    work = [asyncio.ensure_future(ask(gated, path, body, **SAID)) for _ in range(3)]
    together = max(1, 3 // answers)
    async with asyncio.timeout(20):
        await have(application, together)
        await settled()
        assert len(application.bodies) == together and rules.max_num_queued_reqs == 12 + together * answers
        application.hold.set()
        await asyncio.gather(*work)
    assert len(application.bodies) == 3 and rules.max_num_queued_reqs == 12


async def test_pictures_of_batch_work_that_waits_for_its_turn_are_in_nobodys_way() -> None:
    application = Application(*whole({}))
    application.hold = asyncio.Event()
    gated = Gate(application, Door(served=served(behind=Behind(scheduler(), MOST), looking=Looking(100, 50))))
    picture = {"type": "image_url", "image_url": {"url": url(file(Image.new("RGB", (40, 1), "red")))}}

    def asked(*content: Any, **said: str) -> Any:
        messages = [{"role": "user", "content": list(content)}] if content else MESSAGES
        return asyncio.ensure_future(ask(gated, CHAT, {"messages": messages}, **said))

    work = [asked(**SAID) for _ in range(3)]
    async with asyncio.timeout(20):
        await have(application, 3)
        waiting = asked(picture, **SAID)
        await settled()
        live = asked(picture, picture)
        await have(application, 4)
        assert len(application.bodies[3]["messages"][0]["content"]) == 2, "the live one"
        application.hold.set()
        assert [status for status, *_ in await asyncio.gather(*work, waiting, live)] == [200] * 5


async def test_most_of_the_room_for_pictures_is_never_taken_by_batch_work() -> None:
    looking, done = served().looking, asyncio.Event()

    async def work() -> None:
        async with looking.at(PIXELS // 16, 99, batch=True):
            await done.wait()

    working = [asyncio.ensure_future(work()) for _ in range(16)]
    await settled()
    async with asyncio.timeout(20), looking.at(PIXELS * 3 // 4, 99):
        done.set()
        await settled()
        assert sum(one.done() for one in working) >= 4
    await asyncio.gather(*working)


async def test_no_more_of_it_waits_than_live_requests_would() -> None:
    application, rules = Application(*whole({})), scheduler()
    application.hold = asyncio.Event()
    gated = through(application, rules)
    work = [asyncio.ensure_future(ask(gated, CHAT, {"messages": MESSAGES, "n": 2}, **SAID)) for _ in range(6)]
    async with asyncio.timeout(20):
        await settled()
        status, headers, raw = await ask(gated, CHAT, {"messages": MESSAGES}, **SAID)
        assert status == 429 and b"12 answers of batch work" in raw and int(headers[b"retry-after"]) > 0
        application.hold.set()
        assert [status for status, *_ in await asyncio.gather(*work)] == [200] * 6
        assert (await ask(gated, CHAT, {"messages": MESSAGES}, **SAID))[0] == 200


async def test_whose_client_left_while_it_waited_is_never_computed() -> None:
    application, rules = Application(*whole({})), scheduler()
    application.hold, left = asyncio.Event(), asyncio.Event()
    door = Door(served=served(behind=Behind(rules, MOST)))
    gated = Gate(application, door)
    work = [asyncio.ensure_future(ask(gated, CHAT, {"messages": MESSAGES}, **SAID)) for _ in range(3)]
    async with asyncio.timeout(20):
        await have(application, 3)
        gone = [asyncio.ensure_future(ask(gated, CHAT, {"messages": MESSAGES}, left=left, **SAID)) for _ in range(9)]
        await settled()
        assert door.running.count == 12
        left.set()
        assert [status for status, *_ in await asyncio.gather(*gone)] == [0] * 9
        assert door.running.count == 3, "nobody waits for it any more"
        more = asyncio.ensure_future(ask(gated, CHAT, {"messages": MESSAGES}, **SAID))
        await settled()
        application.hold.set()
        assert [status for status, *_ in await asyncio.gather(*work, more)] == [200] * 4
    assert len(application.bodies) == 4


async def test_who_leaves_while_it_waits_gives_its_places_back() -> None:
    behind = Behind(scheduler(), MOST)
    async with asyncio.timeout(20):
        async with behind.turn(1):
            gone = asyncio.ensure_future(behind.turn(3).__aenter__())
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.wait([gone])
        async with behind.turn(3):
            pass


async def test_more_prompts_than_a_replica_runs_and_queues_are_refused() -> None:
    body = {"prompt": ["a"] * 7, "max_tokens": 1}
    status, _, raw = await ask(gate(Application(*whole({}))), "/v1/completions", body)
    assert status == 400 and b"7 answers are asked for at once" in raw


async def test_without_a_bound_there_is_none_to_raise() -> None:
    rules = scheduler(most=None)
    async with Behind(rules, MOST).turn(3):
        assert rules.max_num_queued_reqs is None
