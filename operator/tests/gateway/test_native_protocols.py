"""Ollama's, TGI's and Xinference's routes over real sockets: what clients see when replicas answer, refuse, break and
stall, and while there are none. Numbers are those of the facts that clients were read for."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from gateway_world import World, answer, die, stream  # type: ignore[import-not-found]

from llmservice_api.gateway_keys import new_key, record_of
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.ring import Ring
from llmservice_gateway.routing import About, Adapter, Backend, Replica, Table, Unready

Json = dict[str, Any]
USAGE = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
DONE = b"data: [DONE]\n\n"
CHAT: Json = {"messages": [{"role": "user", "content": "Hi"}]}
ASKED: dict[str, tuple[str, Json]] = {
    "ollama": ("/api/chat", CHAT),
    "ollama, one": ("/apps/demo/api/chat", CHAT),
    "ollama text": ("/api/generate", {"prompt": "Hi"}),
    "tgi": ("/apps/demo", {"inputs": "Hi"}),
    "tgi/": ("/apps/demo/", {"inputs": "Hi"}),
    "tgi text": ("/apps/demo/generate", {"inputs": "Hi"}),
}
PROTOCOLS = pytest.mark.parametrize("protocol", ASKED)
STREAMS = pytest.mark.parametrize("protocol", [name for name in ASKED if name != "tgi text"])
ABOUT = About("Chat", "hf://acme/tiny-GGUF", "abc", "LlamaCpp", "GGUF", "llama", 7_615_616_512, "Q4_K_M", 4_683_074_240)


def data(body: Json) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def piece(text: str, finish: str | None = None) -> bytes:
    """A chunk of chat and of a plain completion in one."""
    return data(
        {
            "model": "apps/demo",
            "choices": [{"index": 0, "delta": {"content": text}, "text": text, "finish_reason": finish}],
            "usage": USAGE,
        }
    )


async def whole(request: web.Request) -> web.StreamResponse:
    plain = request.path.endswith("/completions") and "chat" not in request.path
    said = {"text": "Hello"} if plain else {"message": {"role": "assistant", "content": "Hello"}}
    return web.json_response({"model": "m", "choices": [{"index": 0, **said, "finish_reason": "stop"}], "usage": USAGE})


async def plain(request: web.Request) -> web.StreamResponse:
    """A stream, of whichever kind it is asked for."""
    chat = "chat" in request.path

    def chunk(text: str, finish: str | None = None) -> bytes:
        said = {"delta": {"content": text}} if chat else {"text": text}
        choices = [{"index": 0, **said, "finish_reason": finish}]
        return data({"model": "m", "choices": choices, "usage": USAGE})

    answered: web.StreamResponse = await stream(chunk("Hel"), chunk("lo") + b": waiting\n\n", chunk("", "stop") + DONE)(
        request
    )
    return answered


async def ask(world: World, protocol: str, headers: Any = None, **fields: Any) -> Any:
    path, body = ASKED[protocol]
    named = {} if protocol.startswith("tgi") else {"model": "demo"}
    return await world.client.post(
        f"{world.url}{path}", json={**named, "stream": False, **body, **fields}, headers=headers
    )


def text_of(protocol: str, body: Any) -> str:
    if protocol.startswith("tgi"):
        said = body[0] if protocol != "tgi text" else body
        return str(said["generated_text"])
    return str(body["response"] if "text" in protocol else body["message"]["content"])


def error_of(protocol: str, body: Json) -> str:
    assert set(body) == ({"error", "error_type"} if protocol.startswith("tgi") else {"error"})
    return str(body["error"])


@PROTOCOLS
async def test_a_whole_answer(world: World, protocol: str) -> None:
    (runtime,) = await world.service(whole)
    response = await ask(world, protocol)
    assert response.status == 200 and response.headers["Content-Type"].startswith("application/json")
    assert text_of(protocol, await response.json()) == "Hello"
    assert response.headers["X-Request-Id"]
    (path, _), *_ = runtime.seen
    assert path == ("/v1/completions" if protocol.startswith("tgi") else "/v1/chat/completions")
    line = json.loads(world.lines[-1])
    assert (line["prompt_tokens"], line["completion_tokens"], line["service"]) == (30, 12, "apps/demo")


@STREAMS
async def test_a_stream_comes_as_it_is_made_and_is_counted(world: World, protocol: str) -> None:
    await world.service(plain)
    response = await ask(world, protocol, stream=True)
    text = await response.text()
    kind = response.headers["Content-Type"]
    if protocol.startswith("tgi"):  # T3
        assert kind.startswith("text/event-stream") and ": waiting" in text and "[DONE]" not in text
        events = [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")]
        assert "".join(each["token"]["text"] for each in events) == events[-1]["generated_text"] == "Hello"
        assert events[-1]["details"]["generated_tokens"] == 12 and events[-1]["token"]["special"]
    else:  # A2
        assert kind == "application/x-ndjson" and "\n\n" not in text
        lines = [json.loads(line) for line in text.splitlines()]
        assert "".join(text_of(protocol, line) for line in lines) == "Hello"
        assert lines[-1]["done"] and lines[-1]["eval_count"] == 12 and lines[-1]["total_duration"] > 0
    line = json.loads(world.lines[-1])
    assert (line["prompt_tokens"], line["completion_tokens"], line["stream"]) == (30, 12, True)
    metrics = await (await world.client.get(f"{world.url}/metrics")).text()
    assert 'llmservice_gateway_tokens_total{kind="completion",service="apps/demo"} 12.0' in metrics


async def test_a_route_for_streams_streams(world: World) -> None:
    """T5."""
    await world.service(plain)
    async with world.client.post(f"{world.url}/apps/demo/generate_stream", json={"inputs": "Hi"}) as response:
        assert b'"generated_text":"Hello"' in await response.read()


@pytest.mark.parametrize("piece_bytes", [100_001, 900_000])
async def test_a_stream_with_the_ids_of_a_long_prompt_is_told(world: World, piece_bytes: int) -> None:
    """They are in its first event, which is as large as the prompt is long, and comes in pieces."""
    first = {"index": 0, "text": "Hel", "prompt_token_ids": list(range(100_000, 400_000)), "token_ids": [1]}
    event = data({"model": "m", "choices": [first], "usage": USAGE}).replace(b", ", b",")
    parts = [event[at : at + piece_bytes] for at in range(0, len(event), piece_bytes)]
    await world.service(stream(*parts, piece("lo"), DONE))
    async with world.client.post(f"{world.url}/apps/demo/generate_stream", json={"inputs": "Hi"}) as response:
        assert b'"generated_text":"Hello"' in await response.read()


@pytest.mark.parametrize("route", ["generate", "generate_stream"])
async def test_a_replica_of_an_earlier_release_answers_without_the_ids_of_tokens(world: World, route: str) -> None:
    """Pinned services keep it when the gateway is upgraded, and it refuses fields that it does not know."""
    asked: list[Json] = []

    async def engine(request: web.Request) -> web.StreamResponse:
        asked.append(json.loads(await request.read()))
        if asked[-1].get("return_token_ids") is not None:
            error = {"message": "No.", "type": "x", "code": "unsupported_parameter", "param": "return_token_ids"}
            return web.json_response({"error": error}, status=400)
        answered: web.StreamResponse = await (plain if asked[-1].get("stream") else whole)(request)
        return answered

    await world.service(engine)
    body: Json = {"inputs": "Hi", "parameters": {"details": True}}
    async with world.client.post(f"{world.url}/apps/demo/{route}", json=body) as response:
        assert response.status == 200 and b'"generated_text":"Hello"' in await response.read()
    assert [one["return_token_ids"] for one in asked] == [True, None]
    body["parameters"]["decoder_input_details"] = True  # without ids nobody knows which tokens are the prompt's
    async with world.client.post(f"{world.url}/apps/demo/generate", json=body) as response:
        assert response.status == 400 and len(asked) == 3


@STREAMS
async def test_a_stream_whose_replica_dies_ends_with_an_error_of_the_protocol(world: World, protocol: str) -> None:
    await world.service(stream(piece("Hel"), then="die"))
    text = await (await ask(world, protocol, stream=True)).text()
    last = json.loads(text.splitlines()[-1] or text.splitlines()[-2][5:])
    assert "ended in the middle" in error_of(protocol, last)
    assert '"done":true' not in text and 'generated_text":"' not in text


@PROTOCOLS
async def test_errors_name_the_fields_of_the_protocol(world: World, protocol: str) -> None:
    chats = "prompt" if protocol.startswith("tgi") else "max_tokens"
    error = {"message": f"`{chats}` is wrong.", "type": "x", "code": "invalid_value", "param": chats}
    await world.service(answer({"error": error}, 400))
    own = "inputs" if protocol.startswith("tgi") else "options.num_predict"
    response = await ask(world, protocol)
    assert response.status == 400 and error_of(protocol, await response.json()) == f"`{own}` is wrong."
    unknown = await ask(world, protocol, frobnicate=1)
    assert unknown.status == 400 and "`frobnicate`" in error_of(protocol, await unknown.json())


@STREAMS
async def test_who_is_held_gets_signs_of_life_and_then_the_reason(world: World, protocol: str) -> None:
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, beat_seconds=0.05)
    world.publish(Backend("apps", "demo", unready=Unready("Loading", "It loads.")))
    response = await ask(world, protocol, stream=True)
    text = await response.text()
    assert response.status == 200 and text.startswith(": waiting" if protocol.startswith("tgi") else "  ")
    last = text.strip().splitlines()[-1]
    assert "It loads." in error_of(protocol, json.loads(last.removeprefix("data:")))
    held = await ask(world, protocol)
    assert held.status == 503 and held.headers["Retry-After"] == "10"
    assert "It loads." in error_of(protocol, await held.json())


@STREAMS
async def test_who_is_held_is_served_when_a_replica_is_there(world: World, protocol: str) -> None:
    """A service at zero, as clients see it: D6, D20, O2."""
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, beat_seconds=0.05, hold_seconds=30)
    world.publish(Backend("apps", "demo", unready=Unready("Idle", "It is woken.")))
    response = await ask(world, protocol, stream=True)  # the first sign of life
    runtime = await world.runtime(plain)
    world.publish(Backend("apps", "demo", (Replica("demo-0", runtime.url),)))
    text = await response.text()
    assert "Hel" in text and ('"done":true' in text or 'generated_text":"Hello' in text)
    if not protocol.startswith("tgi"):
        last = json.loads(text.splitlines()[-1])
        assert last["load_duration"] > 40_000_000


@PROTOCOLS
async def test_a_request_whose_replica_dies_is_tried_once_more(world: World, protocol: str) -> None:
    deaths = iter([True, False])

    async def engine(request: web.Request) -> web.StreamResponse:
        answered: web.StreamResponse = await (die if next(deaths) else whole)(request)
        return answered

    await world.service(engine, engine)
    assert (await ask(world, protocol)).status == 200
    assert json.loads(world.lines[-1])["retries"] == 1


@pytest.mark.parametrize("model", ["demo:latest", "apps/demo:latest", "apps.demo", "gpt", "gpt:latest"])
async def test_names_as_other_clients_spell_them(world: World, model: str) -> None:
    (runtime,) = await world.service(whole)
    world.gateway.proxy.publish(Table(world.gateway.proxy.table.backends, {"gpt": "apps/demo"}))
    for path in ("/api/chat", "/v1/chat/completions", "/apps/demo/api/chat"):
        async with world.client.post(f"{world.url}{path}", json={"model": model, "stream": False, **CHAT}) as response:
            body = await response.json()
            assert response.status == 200, body
            assert json.loads(runtime.seen[-1][1])["model"] == "apps/demo"
            assert body["model"] == (model if "api" in path else "m")
    missing = await world.client.post(f"{world.url}/api/chat", json={"model": "nobody:latest", **CHAT})
    assert missing.status == 404 and "Served here: apps/demo" in (await missing.json())["error"]


@pytest.mark.parametrize("model", ["tgi", "dummy"])
async def test_at_a_services_own_url_clients_may_write_what_they_have_to(world: World, model: str) -> None:
    (runtime,) = await world.service(whole)
    async with world.client.post(
        f"{world.url}/apps/demo/v1/chat/completions", json={"model": model, **CHAT}
    ) as response:
        assert response.status == 200 and json.loads(runtime.seen[-1][1])["model"] == "apps/demo"
    async with world.client.post(f"{world.url}/v1/chat/completions", json={"model": model, **CHAT}) as response:
        assert response.status == 404


async def test_an_adapter_is_its_services_tag(world: World) -> None:
    runtime = await world.runtime(whole)
    replica = Replica("demo-0", runtime.url, adapters=frozenset({"sql"}))
    world.publish(Backend("apps", "demo", (replica,), adapters=(Adapter("sql"),), about=ABOUT))
    for model in ("demo:sql", "apps/demo:sql", "demo:sql:latest", "apps.demo:sql"):
        body = {"model": model, "stream": False, **CHAT}
        async with world.client.post(f"{world.url}/api/chat", json=body) as response:
            assert response.status == 200 and (await response.json())["model"] == model
            assert json.loads(runtime.seen[-1][1])["model"] == "sql"
    async with world.client.get(f"{world.url}/api/tags") as response:
        base, adapter = (await response.json())["models"]
    assert (base["name"], adapter["name"]) == ("apps/demo:latest", "apps/demo:sql")
    assert adapter["details"]["parent_model"] == "apps/demo" and base["digest"] != adapter["digest"]
    async with world.client.post(f"{world.url}/api/chat", json={"model": "demo:other", **CHAT}) as response:
        assert response.status == 404 and "sql" in (await response.json())["error"]


async def test_a_longer_context_than_there_is_is_refused_by_name(world: World) -> None:
    """A5: num_ctx is not ignored."""
    runtime = await world.runtime(whole)
    world.publish(Backend("apps", "demo", (Replica("demo-0", runtime.url),), context_tokens=4096))
    assert (await ask(world, "ollama", options={"num_ctx": 2048})).status == 200
    response = await ask(world, "ollama", options={"num_ctx": 8192})
    assert response.status == 400
    said = error_of("ollama", await response.json())
    assert "`options.num_ctx` is 8192" in said and "4096" in said and "spec.contextTokens" in said


async def test_what_is_served_is_listed_at_zero_too(world: World) -> None:
    """A3, R8."""
    there = Backend("apps", "demo", (Replica("demo-0", "http://127.0.0.1:9"),), context_tokens=4096, about=ABOUT)
    away = Backend("apps", "other", unready=Unready("Idle", "It is woken."), about=About("Embedding"))
    world.publish(there, away)

    async def got(path: str) -> Any:
        async with world.client.get(f"{world.url}{path}") as response:
            assert response.status == 200
            return await response.json()

    tags = (await got("/api/tags"))["models"]
    assert (
        [each["name"] for each in tags] == [each["model"] for each in tags] == ["apps/demo:latest", "apps/other:latest"]
    )
    details = tags[0]["details"]
    assert (details["format"], details["family"], details["parameter_size"], details["quantization_level"]) == (
        "gguf", "llama", "7.616B", "Q4_K_M"
    )  # fmt: skip
    assert tags[0]["size"] == 4_683_074_240 and len(tags[0]["digest"]) == 64
    assert [each["name"] for each in (await got("/api/ps"))["models"]] == ["apps/demo:latest"]
    assert (await got("/apps/demo/api/tags"))["models"] == tags[:1]
    assert (await got("/api/version"))["version"]
    async with world.client.post(f"{world.url}/api/show", json={"model": "demo:latest"}) as response:
        shown = await response.json()
    assert shown["capabilities"] == ["completion", "tools"] and shown["model_info"]["llama.context_length"] == 4096
    async with world.client.post(f"{world.url}/api/show", json={"name": "other"}) as response:
        assert (await response.json())["capabilities"] == ["embedding"]
    async with world.client.post(f"{world.url}/api/show", json={"model": "nobody"}) as response:
        assert response.status == 404 and set(await response.json()) == {"error"}


async def test_a_body_that_names_a_model_is_small(world: World) -> None:
    body = b'{"model": "demo", "options": [' + b"{}," * 100_000 + b"{}]}"
    packed = {"Content-Encoding": "gzip"}
    async with world.client.post(f"{world.url}/api/show", data=gzip.compress(body), headers=packed) as response:
        assert response.status == 413 and await response.json() == {"error": "The body is larger than 65536 bytes."}


async def test_the_root_says_what_clients_of_ollama_look_for(world: World) -> None:
    for method in ("GET", "HEAD"):
        async with world.client.request(method, f"{world.url}/") as response:
            assert response.status == 200
            assert await response.text() == ("Ollama is running" if method == "GET" else "")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/create"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/push"),
        ("POST", "/api/copy"),
    ],
)
async def test_which_models_there_are_is_said_elsewhere(world: World, method: str, path: str) -> None:
    """A1."""
    async with world.client.request(method, f"{world.url}{path}", json={"model": "x"}) as response:
        assert response.status == 501 and "llmservice up -f FILE" in error_of("ollama", await response.json())


async def test_what_tgi_tells_of_itself(world: World) -> None:
    """T5; a service at zero is well, since a request made now is held."""
    world.publish(Backend("apps", "demo", unready=Unready("Idle", "It is woken."), context_tokens=4096, about=ABOUT))
    async with world.client.get(f"{world.url}/apps/demo/info") as response:
        told = await response.json()
    assert (told["model_id"], told["model_sha"], told["max_total_tokens"]) == ("acme/tiny-GGUF", "abc", 4096)
    async with world.client.get(f"{world.url}/apps/demo/health") as response:
        assert response.status == 200
    world.publish(Backend("apps", "demo", unready=Unready("Stopped", "spec.replicas is 0.", final=True)))
    async with world.client.get(f"{world.url}/apps/demo/health") as response:
        assert response.status == 503 and "spec.replicas is 0." in error_of("tgi", await response.json())
    for path in ("/v1/nothing", "/api/nothing"):
        async with world.client.post(f"{world.url}{path}", json={"inputs": "Hi"}) as response:
            assert response.status == 404 and "There is no POST" in await response.text()
    async with world.client.post(f"{world.url}/apps/nobody", json={"inputs": "Hi"}) as response:
        assert response.status == 404 and "apps/nobody" in error_of("tgi", await response.json())


async def test_a_model_as_xinference_tells_it(world: World) -> None:
    """D20, X2, X4; superset of OpenAI's fields."""
    scored = Backend("apps", "score", unready=Unready("Idle", "It is woken."), about=About("Rerank"))
    world.publish(
        Backend("apps", "demo", unready=Unready("Idle", "It is woken."), context_tokens=64, about=ABOUT), scored
    )
    async with world.client.get(f"{world.url}/v1/models/apps.demo") as response:
        model = await response.json()
    assert model["id"] == "apps/demo" and model["object"] == "model" and model["model_uid"] == "apps.demo"
    assert (model["model_type"], model["model_ability"]) == ("LLM", ["chat", "generate", "tools"])
    world.publish(
        Backend("apps", "eyes", about=replace(ABOUT, sees=True)), *world.gateway.proxy.table.backends.values()
    )
    async with world.client.get(f"{world.url}/v1/models/apps.eyes") as response:
        assert (await response.json())["model_ability"] == ["chat", "generate", "tools", "vision"]
    async with world.client.post(f"{world.url}/api/show", json={"model": "eyes"}) as response:
        assert (await response.json())["capabilities"] == ["completion", "tools", "vision"]
    for abilities, xinference, ollama in (
        ((), [], []),
        (("Tools",), ["tools"], ["tools"]),
        (("Thinking", "Tools"), ["tools", "reasoning"], ["tools", "thinking"]),
    ):
        thinker = Backend("apps", "thinker", about=replace(ABOUT, abilities=frozenset(abilities)))
        world.publish(thinker, *(one for one in world.gateway.proxy.table.backends.values() if one.name != "thinker"))
        async with world.client.get(f"{world.url}/v1/models/apps.thinker") as response:
            assert (await response.json())["model_ability"] == ["chat", "generate", *xinference]
        async with world.client.post(f"{world.url}/api/show", json={"model": "thinker"}) as response:
            assert (await response.json())["capabilities"] == ["completion", *ollama]
    assert (model["context_length"], model["max_tokens"], model["max_model_len"]) == (64, 64, 64)
    assert (model["model_format"], model["model_family"], model["quantization"]) == ("ggufv2", "llama", "Q4_K_M")
    async with world.client.get(f"{world.url}/v1/models/apps.score") as response:
        assert (await response.json())["model_type"] == "rerank"
    async with world.client.get(f"{world.url}/v1/engines/LLM/demo") as response:
        (row,) = (await response.json())["LlamaCpp"]
    assert row["model_format"] == "ggufv2" and row["quantizations"] == ["Q4_K_M"]
    async with world.client.get(f"{world.url}/v1/models/nobody") as response:
        body = await response.json()
        assert response.status == 404 and body["detail"] == body["error"]["message"]
    for method, path in (("POST", "/v1/models"), ("DELETE", "/v1/models/apps.demo")):  # X1, X3
        async with world.client.request(method, f"{world.url}{path}", json={"model_name": "x"}) as response:
            assert response.status == 501 and "kubectl apply" in (await response.json())["detail"]


@pytest.mark.parametrize("uid", ["apps.demo", "apps.demo:sql"])
async def test_calls_come_with_the_finish_reason_where_xinference_is_spoken(world: World, uid: str) -> None:
    """S14, D21: Dify's provider leaves out chunks that have no content and no finish reason."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "weather", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": "{}"}}

    def chunk(delta: Json, finish: str | None = None) -> bytes:
        return data({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    parts = (chunk({"role": "assistant", "content": ""}), chunk({"content": "I look."}), chunk({"tool_calls": [call]}))
    usage = data({"model": "m", "choices": [], "usage": USAGE})
    answers = stream(*parts, chunk({"tool_calls": [more]}), chunk({}, "tool_calls"), usage + DONE)
    runtime = await world.runtime(answers)
    replica = Replica("demo-0", runtime.url, adapters=frozenset({"sql"}))
    world.publish(Backend("apps", "demo", (replica,), adapters=(Adapter("sql"),)))
    tool = {"type": "function", "function": {"name": "weather"}}
    body = {"model": uid, "stream": True, "tools": [tool], "stream_options": {"include_usage": True}, **CHAT}
    async with world.client.post(f"{world.url}/v1/chat/completions", json=body) as response:
        events = [line[6:] for line in (await response.text()).splitlines() if line]
    *chunks, last = events
    told = [json.loads(each) for each in chunks]
    assert last == "[DONE]" and told[-1]["usage"] == USAGE and told[-1]["choices"] == []
    (ended,) = [each["choices"][0] for each in told[:-1] if each["choices"][0]["finish_reason"]]
    assert ended["delta"]["tool_calls"] == [
        {"index": 0, "id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    ]
    async with world.client.post(
        f"{world.url}/v1/chat/completions", json=body | {"return_token_ids": True}
    ) as response:
        assert response.status == 400 and (await response.json())["error"]["param"] == "return_token_ids"
    body["model"] = "apps/demo"
    async with world.client.post(f"{world.url}/v1/chat/completions", json=body) as response:
        assert b'"arguments": ""' in await response.read(), "OpenAI's clients get the replica's own"


async def test_scores_as_xinferences_client_asks_for_them(world: World) -> None:
    """D22: it sends fields that say nothing, and needs the documents."""
    scores = {"results": [{"index": 0, "relevance_score": 0.9, "document": {"text": "a"}}]}
    (runtime,) = await world.service(answer(scores))
    body = {
        "model": "apps.demo", "query": "q", "documents": ["a"], "top_n": None, "max_chunks_per_doc": None,
        "return_documents": True, "return_len": None, "kwargs": "{}",
    }  # fmt: skip
    async with world.client.post(f"{world.url}/v1/rerank", json=body) as response:
        assert await response.json() == scores
    (_, asked), *_ = runtime.seen
    assert json.loads(asked) == {"model": "apps/demo", "query": "q", "documents": ["a"], "return_documents": True}
    body["kwargs"] = '{"odd": 1}'
    async with world.client.post(f"{world.url}/v1/rerank", json=body) as response:
        assert response.status == 400 and "`kwargs`" in (await response.json())["error"]["message"]


@pytest.fixture
async def keyed() -> AsyncIterator[tuple[World, str]]:
    async with AsyncExitStack() as stack:
        door, key = Door(), new_key()
        world = World(stack, door)
        await world.open()
        door.publish(Ring({"little": record_of(key, ["apps/demo"], 3, 40)}))
        yield world, key


@PROTOCOLS
async def test_keys_and_their_limits_hold(keyed: tuple[World, str], protocol: str) -> None:
    world, key = keyed
    (runtime,) = await world.service(whole)
    refused = await ask(world, protocol)
    assert refused.status == 401 and "key" in error_of(protocol, await refused.json())
    headers = {"Authorization": f"Bearer {key}"}
    assert (await ask(world, protocol, headers=headers)).status == 200
    over = await ask(world, protocol, headers=headers)  # 42 of 40 tokens are used
    assert over.status == 429 and int(over.headers["Retry-After"]) > 0 and error_of(protocol, await over.json())
    assert len(runtime.seen) == 1 and json.loads(world.lines[-2])["key_name"] == "little"


async def test_only_whether_a_key_is_needed_is_told_without_one(keyed: tuple[World, str]) -> None:
    world, key = keyed
    world.publish(Backend("apps", "demo", about=ABOUT), Backend("apps", "secret"))
    async with world.client.get(f"{world.url}/v1/cluster/auth") as response:
        assert await response.json() == {"auth": True}
    for path in ("/api/tags", "/api/ps", "/", "/apps/demo/info", "/v1/engines/demo"):
        async with world.client.get(f"{world.url}{path}") as response:
            assert response.status == 401
    headers = {"Authorization": f"Bearer {key}"}
    async with world.client.get(f"{world.url}/api/tags", headers=headers) as response:
        assert [each["name"] for each in (await response.json())["models"]] == ["apps/demo:latest"]
    async with world.client.get(f"{world.url}/apps/secret/info", headers=headers) as response:
        assert response.status == 404


async def test_nobody_needs_a_key_where_there_are_none(world: World) -> None:
    async with world.client.get(f"{world.url}/v1/cluster/auth") as response:
        assert await response.json() == {"auth": False}


async def test_a_replica_that_begins_in_the_middle_of_an_event_ends_no_stream_that_waited(world: World) -> None:
    """The first bytes after signs of life may be less than an event."""
    world.gateway.proxy.limits = replace(world.gateway.proxy.limits, beat_seconds=0.05, hold_seconds=30)
    for path in ("/v1/chat/completions", "/api/chat"):
        world.publish(Backend("apps", "demo", unready=Unready("Idle", "It is woken.")))
        body = {"model": "demo", "stream": True, **CHAT}
        async with world.client.post(f"{world.url}{path}", json=body) as response:
            first = piece("Hello")
            runtime = await world.runtime(stream(first[:9], first[9:], piece("", "stop") + DONE))
            world.publish(Backend("apps", "demo", (Replica(f"demo-{path}", runtime.url),)))
            assert "Hello" in await response.text()
