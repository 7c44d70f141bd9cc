"""Names that whoever runs the gateway gives to services."""

from __future__ import annotations

import json

import pytest
from gateway_world import World, answer  # type: ignore[import-not-found]

from llmservice_gateway.routing import Table


@pytest.fixture
def aliases(world: World) -> dict[str, str]:
    return {"gpt-4o": "apps/demo", "openai/gone": "apps/gone", "other": "apps/demo"}


async def test_the_engine_is_asked_for_a_name_that_it_knows(world: World, aliases: dict[str, str]) -> None:
    (engine,) = await world.service(answer())
    world.gateway.proxy.publish(Table(world.gateway.proxy.table.backends, aliases))
    big = "x" * 300_000
    for model in ("gpt-4o", "demo", "apps/demo"):
        response = await world.chat(model, messages=[{"role": "user", "content": f"{model} {big}"}])
        assert response.status == 200
    bodies = [json.loads(body) for _, body in engine.seen]
    assert [body["model"] for body in bodies] == ["apps/demo", "demo", "apps/demo"]
    assert [body["messages"][0]["content"].split()[0] for body in bodies] == ["gpt-4o", "demo", "apps/demo"]
    text = b' {"model": "gpt-4o", "messages": [], "a": {"model": "x"}, "b": "}"} \n\t'
    async with world.client.post(f"{world.url}/v1/chat/completions", data=text) as response:
        assert response.status == 200
    assert json.loads(engine.seen[-1][1]) == {"model": "apps/demo", "messages": [], "a": {"model": "x"}, "b": "}"}
    assert world.gateway.proxy.bodies.taken == 0


async def test_an_alias_that_leads_nowhere_is_told_and_not_listed(world: World, aliases: dict[str, str]) -> None:
    await world.service(answer())
    world.gateway.proxy.publish(Table(world.gateway.proxy.table.backends, aliases))
    response = await world.chat("openai/gone")
    assert response.status == 404 and (await response.json())["error"]["code"] == "model_not_found"
    async with world.client.get(f"{world.url}/v1/models") as listed:
        assert [model["id"] for model in (await listed.json())["data"]] == ["apps/demo", "gpt-4o", "other"]
    async with world.client.get(f"{world.url}/v1/models/gpt-4o") as one:
        assert (await one.json())["id"] == "gpt-4o"


async def test_below_a_services_own_url_nothing_leads_to_another(world: World) -> None:
    await world.service(answer())
    (other,) = await world.service(answer(), name="other")
    world.gateway.proxy.publish(Table(world.gateway.proxy.table.backends, {"gpt-4o": "apps/demo", "o": "apps/other"}))
    for model in ("demo", "apps/demo", "gpt-4o"):
        async with world.client.get(f"{world.url}/apps/other/v1/models/{model}") as found:
            assert found.status == 404, model
    for model, asked in (("gpt-4o", "gpt-4o"), ("o", "apps/other"), ("other", "other")):
        url = f"{world.url}/apps/other/v1/chat/completions"
        async with world.client.post(url, json={"model": model, "messages": []}) as response:
            assert response.status == 200
        assert json.loads(other.seen[-1][1])["model"] == asked, "the engine says that it does not know another's name"
