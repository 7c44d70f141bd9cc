"""What an operator of the gateway can see: metrics, and a line for each request that tells no secret."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from gateway_world import World, answer, die, stall, stream  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st

from llmservice_gateway.journal import Entry, request_id
from llmservice_gateway.places import Capacity
from llmservice_gateway.routing import Backend, Unready

EVENT = b'data: {"choices":[]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}\n\n'


async def metrics(world: World) -> str:
    text: str = await (await world.client.get(f"{world.url}/metrics")).text()
    return text


async def told(world: World) -> dict[str, Any]:
    """The last line, which comes a moment after its answer."""
    for _ in range(500):
        if world.lines:
            break
        await asyncio.sleep(0.01)
    line: dict[str, Any] = json.loads(world.lines.pop())
    return line


async def test_each_request_has_a_line_without_what_it_says(world: World) -> None:
    body = {
        "choices": [{"message": {"content": 'ANSWER "prompt_tokens": 5'}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
        "prompt_token_ids": [100_000] * 10_000,
    }
    await world.service(answer(body))
    headers = {"Authorization": "Bearer KEY", "X-Request-Id": "mine-1", "Cookie": "KEY"}
    url = f"{world.url}/apps/demo/v1/chat/completions?key=KEY"
    sent = {"messages": [{"role": "user", "content": "PROMPT"}], "user": "PROMPT"}
    response = await world.client.post(url, json=sent, headers=headers)
    assert response.headers["X-Request-Id"] == "mine-1"
    await response.read()
    line = await told(world)
    assert {key: line[key] for key in ("request_id", "method", "path", "service", "replica", "status")} == {
        "request_id": "mine-1",
        "method": "POST",
        "path": "/apps/demo/v1/chat/completions",
        "service": "apps/demo",
        "replica": "demo-0",
        "status": 200,
    }
    assert (line["prompt_tokens"], line["completion_tokens"]) == (9, 4) and line["body_bytes"] > 50
    assert 0 <= line["first_byte_seconds"] <= line["seconds"] and line["time"].startswith("20")
    assert not any(secret in json.dumps(line) for secret in ("KEY", "PROMPT", "ANSWER"))
    assert 'llmservice_gateway_tokens_total{kind="completion",service="apps/demo"} 4.0' in await metrics(world)


async def test_the_replica_and_the_client_see_the_same_id(world: World) -> None:
    ids = []

    async def seen(request: web.Request) -> web.StreamResponse:
        ids.append(request.headers["X-Request-Id"])
        response: web.StreamResponse = await answer()(request)
        return response

    await world.service(seen)
    response = await world.chat()
    assert [response.headers["X-Request-Id"]] == ids and len(ids[0]) == 32
    assert (await told(world))["request_id"] == ids[0]


@given(st.text(max_size=140))
def test_an_id_is_one_word_whatever_a_client_sends(given_: str) -> None:
    made = request_id(given_)
    assert made.isascii() and made.isprintable() and " " not in made and 0 < len(made) <= 128
    assert request_id(made) == made
    assert len(Entry(made, "POST", "/" + given_, 0.0).line(1.0, 0.0).splitlines()) == 1


async def test_streams_are_timed(world: World) -> None:
    await world.service(stream(EVENT, EVENT, EVENT, USAGE, b"data: [DONE]\n\n"))
    await (await world.chat(stream=True)).read()
    line = await told(world)
    assert line["stream"] and (line["prompt_tokens"], line["completion_tokens"]) == (11, 3)
    text = await metrics(world)
    for name in ("time_to_first_byte", "inter_chunk", "queue"):
        assert f'llmservice_gateway_{name}_seconds_count{{service="apps/demo"}} 1.0' in text
    assert 'llmservice_gateway_tokens_total{kind="prompt",service="apps/demo"} 11.0' in text


@pytest.mark.parametrize(
    ("unready", "reason"), [(Unready("Loading", "Loading."), "loading"), (Unready("X", "X.", final=True), "X")]
)
async def test_what_the_gateway_refuses_is_counted_by_reason(world: World, unready: Unready, reason: str) -> None:
    world.publish(Backend("apps", "demo", unready=unready))
    assert (await world.chat()).status == 503
    assert (await told(world))["reason"] == reason
    expected = f'llmservice_gateway_rejections_total{{reason="{reason}",service="apps/demo"}} 1.0'
    assert expected in await metrics(world)


async def test_what_a_replica_refuses_is_no_refusal_of_the_gateway(world: World) -> None:
    await world.service(answer({"error": {"message": "no"}}, 400))
    assert (await world.chat()).status == 400
    assert "reason" not in await told(world)
    assert "rejections_total{" not in await metrics(world)


async def test_what_waits_and_runs_is_shown_as_it_is_now(world: World) -> None:
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, hold_seconds=60.0)
    await world.service(stall)
    (backend,) = world.gateway.proxy.table.backends.values()
    world.publish(replace(backend, capacity=Capacity(1)))
    tasks = [asyncio.create_task(world.chat()) for _ in range(5)]
    expected = [
        'llmservice_gateway_in_flight{service="apps/demo"} 3.0',
        'llmservice_gateway_held{service="apps/demo"} 2.0',
        'llmservice_gateway_endpoint_requests{endpoint="demo-0",service="apps/demo"} 3.0',
    ]
    for _ in range(1000):
        text = await metrics(world)
        if all(line in text for line in expected):
            break
    else:
        raise AssertionError(text)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(world.gateway.proxy.wait_idle(), 10)
    text = await metrics(world)
    for name in ("in_flight", "held", "held_prompt_tokens", "held_oldest_seconds"):
        assert f'llmservice_gateway_{name}{{service="apps/demo"}} 0.0' in text
    assert 'llmservice_gateway_requests_total{code="499",service="apps/demo"} 5.0' in text


async def test_retries_and_broken_streams_are_told(world: World) -> None:
    await world.service(die, stream(EVENT, then="die"))
    assert b"replica_lost" in await (await world.chat(stream=True)).read()
    line = await told(world)
    assert (line["retries"], line["status"], line["reason"]) == (1, 200, "replica_lost")
    text = await metrics(world)
    assert 'llmservice_gateway_broken_streams_total{service="apps/demo"} 1.0' in text
    assert 'llmservice_gateway_retries_total{service="apps/demo"} 1.0' in text


async def test_probes_and_scrapes_leave_no_lines(world: World) -> None:
    await metrics(world)
    await world.client.get(f"{world.url}/healthz")
    await world.client.get(f"{world.url}/v1/models")
    assert (await told(world))["path"] == "/v1/models" and not world.lines
