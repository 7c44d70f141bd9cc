"""What stands between clients and vLLM, without vLLM: ASGI messages in, ASGI messages out."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from pictures.drawn import file, url  # type: ignore[import-not-found]
from PIL import Image
from prometheus_client import CollectorRegistry, generate_latest

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.engines.vllm.plugins import NAMES
from llmservice_runtime.engines.vllm.serve.answers import Answer, parted, with_both_keys
from llmservice_runtime.engines.vllm.serve.asgi import Message
from llmservice_runtime.engines.vllm.serve.counts import in_requests
from llmservice_runtime.engines.vllm.serve.echo import Echoed
from llmservice_runtime.engines.vllm.serve.gate import Door, Gate
from llmservice_runtime.engines.vllm.serve.link import Link
from llmservice_runtime.engines.vllm.serve.logprobs import Trimmed
from llmservice_runtime.engines.vllm.serve.metrics import OurMetrics
from llmservice_runtime.engines.vllm.serve.pace import Pace
from llmservice_runtime.engines.vllm.serve.refusals import refusal
from llmservice_runtime.engines.vllm.serve.running import Running
from llmservice_runtime.engines.vllm.serve.served import Served
from llmservice_runtime.engines.vllm.serve.translate import SPACE
from llmservice_runtime.openai.metrics import EngineMetrics
from llmservice_runtime.openai.reports import Reporter
from llmservice_runtime.openai.state import Server
from llmservice_runtime.supervisor.state import Policy, State
from llmservice_runtime.wire.callers import Callers

MESSAGES = [{"role": "user", "content": "a"}]
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Tokens:
    """A tokenizer that knows its size."""

    vocab_size = 100

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return list(text.encode())

    def decode(self, tokens: list[int], *, skip_special: bool = True) -> str:
        return f"token {tokens[0]}"


def served(**fields: Any) -> Served:
    server = Server("apps/demo", 64, EngineMetrics("apps/demo"), ("demo",))
    server.take_template(TEMPLATE, None, "", "")
    return Served(server, Tokens(), max_answers=6, **fields)  # type: ignore[arg-type]


class Behind:
    """The application behind the gate: keeps what it was asked, and sends what it is told to."""

    def __init__(self, *messages: Message) -> None:
        self.bodies: list[Any] = []
        self.paths: list[str] = []
        self.messages = messages
        self.hold: asyncio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        if scope["method"] == "POST":
            body = (await receive())["body"]
            assert dict(scope["headers"])[b"content-length"] == str(len(body)).encode()
            self.bodies.append(json.loads(body))
        for message in self.messages:
            await send(dict(message))
        if self.hold is not None:
            await self.hold.wait()


def whole(body: object, status: int = 200) -> tuple[Message, Message]:
    headers = [(b"content-type", b"application/json")]
    return (
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": json.dumps(body, separators=(",", ":")).encode()},
    )


def event(data: object) -> Message:
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return {"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True}


START = {"type": "http.response.start", "status": 200, "headers": EVENTS}
LAST = {"type": "http.response.body", "body": b"", "more_body": False}


async def ask(
    app: Callable[..., Awaitable[None]],
    path: str,
    body: object = None,
    left: asyncio.Event | None = None,
    **headers: str,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """One request to an ASGI application, whose client hangs up when it has `left`; then status 0."""
    sent: list[Message] = []
    left = left or asyncio.Event()
    given = False
    raw = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    pairs = [(name.lower().encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()]

    async def receive() -> Message:
        nonlocal given
        if given:
            await left.wait()
            return {"type": "http.disconnect"}
        given = True
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": pairs}, receive, send)
    if left.is_set():
        return 0, {}, b""
    assert sent[0]["type"] == "http.response.start" and not sent[-1].get("more_body", False)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent[1:])


def gate(behind: Behind, **fields: Any) -> Gate:
    return Gate(behind, Door(Callers(), served=served(**fields)))


async def test_pictures_go_on_to_vllm_no_larger_than_our_own_engines_see_them() -> None:
    behind = Behind(*whole({}))
    pictures = [
        Image.new("RGB", (9, 7), "red"),
        Image.new("RGB", (4000, 3000), "red"),
        Image.new("I;16", (2, 1), 1 << 15),
    ]
    files = [file(picture) for picture in pictures]
    parts = [{"type": "image_url", "image_url": {"url": url(data)}} for data in files]
    content = [{"type": "text", "text": "a"}, *parts, {"type": "text", "text": "b"}]
    assert (await ask(gate(behind), "/v1/chat/completions", {"messages": [{"role": "user", "content": content}]}))[
        0
    ] == 200
    first, *shown, last = behind.bodies[0]["messages"][0]["content"]
    assert (first, last) == (content[0], content[-1]) and shown[0] == parts[0]
    found = [Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))) for part in shown]
    assert [(image.size, image.getpixel((0, 0))) for image in found] == [
        ((9, 7), (255, 0, 0)), ((2364, 1773), (254, 0, 0)), ((2, 1), (128, 128, 128))
    ]  # fmt: skip


async def test_what_goes_on_to_vllm_is_what_the_client_may_say_and_nothing_else() -> None:
    behind = Behind(*whole({}))
    message = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    body = {"messages": [message], "max_tokens": 5, "user": "me", "metadata": {"a": "b"}, "seed": None, "top_k": 3}
    assert (await ask(gate(behind), "/chat/completions", body))[0] == 200
    assert behind.paths == ["/v1/chat/completions"]
    assert behind.bodies == [
        {
            "model": "apps/demo",
            "messages": [{"role": "user", "content": "a\nb"}],
            "max_completion_tokens": 5,
            "top_k": 3,
        }
    ]


@pytest.mark.parametrize(
    ("given", "goes_on"),
    [
        ({"guided_regex": "a+"}, {"regex": "a+"}),
        ({"response_format": {"type": "json_object"}}, {"json": {"type": "object", "x-guidance": SPACE}}),
        ({"structured_outputs": {"choice": ["x"]}}, {"grammar": 'start: "x"'}),
    ],
)
async def test_every_spelling_of_a_constraint_becomes_the_one_that_vllm_takes(given: Any, goes_on: Any) -> None:
    behind = Behind(*whole({}))
    await ask(gate(behind), "/v1/completions", {"prompt": "a", **given})
    assert behind.bodies[0]["structured_outputs"] == goes_on
    assert not {"guided_regex", "response_format"} & set(behind.bodies[0])


async def test_a_bare_schema_is_taken_and_its_white_space_bounded() -> None:
    behind = Behind(*whole({}))
    bare: Any = {"type": "json_schema", "json_schema": {"type": "object", "properties": {}}}
    await ask(gate(behind), "/v1/completions", {"prompt": "a", "response_format": bare})
    schema = behind.bodies[0]["structured_outputs"]["json"]
    assert schema == {**bare["json_schema"], "x-guidance": SPACE}
    bare["json_schema"]["x-guidance"] = {"whitespace_flexible": False}
    await ask(gate(behind), "/v1/completions", {"prompt": "a", "response_format": bare})
    assert behind.bodies[1]["structured_outputs"]["json"] == bare["json_schema"]


async def test_templates_see_tools_as_the_client_wrote_them() -> None:
    behind = Behind(*whole({}))
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    await ask(gate(behind), "/tokenize", {"messages": [{"role": "user", "content": "a"}], "tools": [tool]})
    assert behind.bodies[0]["chat_template_kwargs"]["tools"] == [tool]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/chat/completions", {"messages": []}, 400, "invalid_value"),
        ("/v1/completions", {"prompt": "a", "bogus": 1}, 400, "unsupported_parameter"),
        ("/v1/completions", {"prompt": "a", "n": 7}, 400, "invalid_value"),
        ("/v1/completions", {"prompt": "a", "stop_token_ids": [100]}, 400, "invalid_value"),
        ("/v1/completions", {"prompt": [5, 100]}, 400, "invalid_value"),
        ("/v1/completions", {"prompt": "a" * 40, "max_tokens": 30}, 400, "context_length_exceeded"),
        ("/v1/completions", {"prompt": [[1] * 40], "max_tokens": 30}, 400, "context_length_exceeded"),
        ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 60}, 400, "context_length_exceeded"),
        ("/v1/completions", {"prompt": "a", "model": "other"}, 404, "model_not_found"),
        ("/v1/completions", None, 405, "method_not_allowed"),
        ("/v1/responses", {"input": "a"}, 404, "not_found"),
        ("/inference/v1/abort_requests", {}, 404, "not_found"),
        ("/detokenize", {"tokens": [100]}, 400, "invalid_value"),
    ],
)
async def test_what_can_be_judged_before_vllm_never_reaches_it(path: str, body: Any, status: int, code: str) -> None:
    behind = Behind(*whole({}))
    answer = await ask(gate(behind), path, body)
    assert answer[0] == status and json.loads(answer[2])["error"]["code"] == code
    assert behind.paths == []


async def test_several_greedy_answers_are_drawn_from_the_likeliest_token() -> None:
    behind = Behind(*whole({}))
    await ask(gate(behind), "/v1/completions", {"prompt": "a", "n": 2, "temperature": 0, "top_p": 0.5})
    assert (behind.bodies[0]["temperature"], behind.bodies[0]["top_k"], behind.bodies[0]["top_p"]) == (1.0, 1, 1.0)


async def test_a_grammar_that_vllm_refuses_is_named_by_the_field_that_has_it() -> None:
    said = {"error": {"message": "Grammar error: invalid regex", "type": "X", "param": None, "code": 400}}
    answer = await ask(gate(Behind(*whole(said, 400))), "/v1/completions", {"prompt": "a", "guided_regex": "("})
    error = json.loads(answer[2])["error"]
    assert (error["code"], error["param"]) == ("invalid_grammar", "guided_regex")


async def test_usage_has_what_every_engine_counts() -> None:
    details = {"cached_tokens": None, "created_cache_tokens": 3, "multimodal_tokens": None}
    usage = {"total_tokens": 2, "prompt_tokens_details": details, "completion_tokens_details": {"reasoning_tokens": 0}}
    wanted = {"total_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}
    answer = await ask(gate(Behind(*whole({"usage": usage}))), "/v1/completions", {"prompt": "a"})
    assert json.loads(answer[2])["usage"] == wanted
    behind = Behind(START, event({"choices": [], "usage": usage}), event("[DONE]"), LAST)
    body = {"prompt": "a", "stream": True, "stream_options": {"include_usage": True}}
    raw = (await ask(gate(behind), "/v1/completions", body))[2]
    assert json.loads(raw.split(b"\n\n")[0].removeprefix(b"data: "))["usage"] == wanted


def test_an_answers_end_and_a_calls_beginning_are_events_of_their_own() -> None:
    def parts(delta: Any, finish: str | None = None) -> list[Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        raw = parted(b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n")
        events = [json.loads(line.removeprefix(b"data: ")) for line in raw.split(b"\n\n") if line]
        assert all(event["id"] == "x" and len(event["choices"]) == 1 for event in events)
        return [(event["choices"][0]["delta"], event["choices"][0]["finish_reason"]) for event in events]

    assert parts({"content": "a"}, "stop") == [({"content": "a"}, None), ({}, "stop")]
    assert parts({"content": ""}, "length") == [({}, "length")]
    call = {"id": "1", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{"}}
    start = {"id": "1", "type": "function", "index": 0, "function": {"name": "f", "arguments": ""}}
    rest = {"index": 0, "function": {"arguments": "{"}}
    assert parts({"tool_calls": [call]}) == [({"tool_calls": [start]}, None), ({"tool_calls": [rest]}, None)]


def test_the_ids_of_an_event_that_is_parted_are_told_once() -> None:
    for content, told in (("a", [[1, 2], None]), ("", [[1, 2]])):
        choice = {"index": 0, "delta": {"content": content}, "finish_reason": "stop", "token_ids": [1, 2]}
        raw = parted(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
        events = [json.loads(line.removeprefix(b"data: ")) for line in raw.split(b"\n\n") if line]
        assert [event["choices"][0].get("token_ids") for event in events] == told


def test_log_probabilities_of_a_completion_have_the_ids_of_their_tokens() -> None:
    """Not those of tokens that are no text."""
    told = {
        "tokens": ["a", "</s>"],
        "token_logprobs": [-1.0, -1.0],
        "top_logprobs": [None, None],
        "text_offset": [0, 1],
    }
    choice = {"index": 0, "text": "a", "logprobs": told, "finish_reason": "stop", "token_ids": [7, 2]}
    (found,) = json.loads(Trimmed(ids=True).whole(json.dumps({"choices": [choice]}).encode()))["choices"]
    assert (found["token_ids"], found["logprobs"]["token_ids"]) == ([7, 2], [7])


async def test_a_prompt_that_is_echoed_is_where_it_is_without_ids() -> None:
    """vLLM leaves its text out where ids are told."""
    told = {"tokens": ["P", "a"], "token_logprobs": [None, -1.0], "top_logprobs": [None, None], "text_offset": [0, 1]}
    first = {"index": 0, "text": "a", "logprobs": told, "prompt_token_ids": [72, 105], "token_ids": [7]}
    more = {"index": 0, "text": "b", "logprobs": None, "prompt_token_ids": None, "token_ids": [8]}
    echoed = Echoed(served().tokenizer)
    prompt = served().tokenizer.decode([72, 105])
    found = json.loads(echoed.whole(json.dumps({"choices": [first]}).encode()))["choices"][0]
    assert (found["text"], found["logprobs"]["token_ids"]) == (f"{prompt}a", [72, 105, 7])
    raw = echoed.event(b"data: " + json.dumps({"choices": [more]}).encode() + b"\n\n")
    assert json.loads(raw.removeprefix(b"data: "))["choices"][0]["text"] == "b"
    assert echoed.event(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"


async def test_the_prompt_of_several_answers_is_decoded_once() -> None:
    """It may be long, and all requests wait meanwhile."""
    tokenizer, decoded = served().tokenizer, list[list[int]]()

    class Counting:
        def decode(self, tokens: Sequence[int], *, skip_special: bool = True) -> str:
            decoded.append(list(tokens))
            return tokenizer.decode(tokens, skip_special=skip_special)

    echoed = Echoed(Counting())  # type: ignore[arg-type]
    choices = [
        {"index": at, "text": "a", "logprobs": None, "prompt_token_ids": [72, 105], "token_ids": [7]} for at in range(3)
    ]
    found = json.loads(echoed.whole(json.dumps({"choices": choices}).encode()))["choices"]
    assert {one["text"] for one in found} == {f"{tokenizer.decode([72, 105])}a"}
    for one in choices:  # each begins in an event of its own
        raw = echoed.event(b"data: " + json.dumps({"choices": [one]}).encode() + b"\n\n")
        assert json.loads(raw.removeprefix(b"data: "))["choices"][0]["text"] == found[0]["text"]
    assert decoded == [[72, 105]]


async def test_names_are_listed_without_vllm() -> None:
    answer = await ask(gate(Behind()), "/v1/models")
    assert [card["id"] for card in json.loads(answer[2])["data"]] == ["apps/demo", "demo"]
    assert (await ask(gate(Behind()), "/models/demo"))[0] == 200
    assert (await ask(gate(Behind()), "/v1/models/other"))[0] == 404


async def test_pages_of_others_are_refused_and_answers_say_that_they_depend_on_who_asks() -> None:
    assert (await ask(gate(Behind()), "/v1/models", Origin="https://evil.example"))[0] == 403
    assert (await ask(gate(Behind()), "/v1/models", Host="evil.example"))[0] == 403
    assert (await ask(gate(Behind()), "/v1/models"))[1][b"vary"] == b"Origin"


async def test_while_it_loads_it_says_so() -> None:
    answer = await ask(Gate(Behind(), Door()), "/v1/models")
    assert answer[0] == 503 and b"retry-after" in answer[1]


@pytest.mark.parametrize(
    ("status", "message", "ours", "code"),
    [
        (503, "The engine is currently busy and cannot accept new requests. Please", 429, "queue_full"),
        (400, "This model's maximum context length is 64 tokens.", 400, "context_length_exceeded"),
        (400, "Grammar error: Invalid type: bogus", 400, "invalid_grammar"),
        (500, "at 0x77 in file", 500, "internal_error"),
        (400, "wrong", 400, "invalid_value"),
    ],
)
def test_errors_of_vllm_are_ours(status: int, message: str, ours: int, code: str) -> None:
    said = {"error": {"message": message, "type": "X", "param": None, "code": status}}
    error = refusal(status, json.dumps(said).encode(), "/v1/chat/completions")
    assert (error.status, error.code) == (ours, code)
    assert ("Retry-After" in error.headers) == (ours == 429)


async def test_an_error_in_a_stream_has_our_shape_and_no_done_follows() -> None:
    failed = event({"error": {"message": "boom", "type": "InternalServerError", "code": 500, "param": None}})
    behind = Behind(START, event({"id": "1"}), failed, event("[DONE]"), LAST)
    body = {"messages": [{"role": "user", "content": "a"}], "stream": True}
    _, headers, raw = await ask(gate(behind), "/v1/chat/completions", body)
    last = json.loads(raw.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
    assert last["code"] == "internal_error" and b"DONE" not in raw and b"boom" not in raw
    assert headers[b"cache-control"] == b"no-cache" and headers[b"x-accel-buffering"] == b"no"


async def test_what_fails_before_its_answer_begins_has_the_error_body() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("at 0x77 in file")

    door = Door(Callers(), served=served())
    status, headers, raw = await ask(Gate(failing, door), "/v1/completions", {"prompt": "a"})
    assert status == 500 and json.loads(raw)["error"]["code"] == "internal_error" and b"0x77" not in raw
    assert headers[b"vary"] == b"Origin" and door.running.idle.is_set()


async def test_no_websocket_passes() -> None:
    behind, sent = Behind(), []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    await gate(behind)({"type": "websocket", "path": "/v1/realtime", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close"}] and behind.paths == []


async def test_thinking_has_both_names_streamed_and_whole_and_texts_stay_as_they_are() -> None:
    text = 'say "reasoning":"no" \\ "\u00e9'
    delta = {"choices": [{"delta": {"reasoning": text}}]}
    chunk = f"data: {json.dumps(delta, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()
    found = json.loads(with_both_keys(chunk).removeprefix(b"data: "))["choices"][0]["delta"]
    assert found == {"reasoning": text, "reasoning_content": text}
    quoted = json.dumps({"choices": [{"delta": {"content": chunk.decode()}}]}, separators=(",", ":")).encode()
    assert with_both_keys(quoted) == quoted

    behind = Behind(*whole({"model": "apps/demo", "choices": [{"message": {"content": "x", "reasoning": text}}]}))
    body = {"messages": [{"role": "user", "content": "a"}], "model": "demo"}
    answer = json.loads((await ask(gate(behind, thinks=True), "/v1/chat/completions", body))[2])
    assert answer["choices"][0]["message"]["reasoning_content"] == text and answer["model"] == "demo"


async def test_chunks_are_passed_on_one_by_one() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    answer = Answer(send, "/v1/completions")
    await answer.send(dict(START))
    for number in range(3):
        await answer.send(event({"number": number}))
        assert len(sent) == number + 2


async def test_the_usage_comes_in_every_chunk_and_at_the_end_only_when_it_was_asked_for() -> None:
    usage = {"choices": [], "usage": {"total_tokens": 1}}
    for end in (False, True):
        behind = Behind(START, event({"choices": [{"index": 0}]}), event(usage), event("[DONE]"), LAST)
        options = {"continuous_usage_stats": True, **({"include_usage": True} if end else {})}
        body = {"prompt": "a", "stream": True, "stream_options": options}
        raw = (await ask(gate(behind), "/v1/completions", body))[2]
        assert behind.bodies[0]["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
        assert (b'"choices":[]' in raw) == end and raw.endswith(b"[DONE]\n\n")


async def test_tokens_are_shown_as_text() -> None:
    behind = Behind(*whole({"tokens": [5], "token_strs": ["\u0120a"]}))
    answer = await ask(gate(behind), "/v1/tokenize", {"prompt": "a", "return_token_strs": True})
    assert json.loads(answer[2])["token_strs"] == ["token 5"]


async def test_a_drain_ends_streams_with_an_error_and_answers_nobody_else() -> None:
    door = Door(served=served())
    behind = Behind(START, event({"id": "1"}))
    behind.hold = asyncio.Event()
    body = {"messages": [{"role": "user", "content": "a"}], "stream": True}
    asked = asyncio.ensure_future(ask(Gate(behind, door), "/v1/chat/completions", body))
    await door.running.busy.wait()
    drain = asyncio.ensure_future(door.running.drain(0.05, margin=0.05))
    await asyncio.sleep(0)
    refused = await ask(Gate(behind, door), "/v1/chat/completions", body)
    assert refused[0] == 503 and json.loads(refused[2])["error"]["code"] == "draining"
    assert (await ask(Gate(behind, door), "/health"))[0] == 503
    await drain
    behind.hold.set()
    raw = (await asked)[2]
    assert raw.count(b"data: ") == 2 and b'"code":"draining"' in raw and b"DONE" not in raw


async def test_a_drain_is_over_when_nothing_runs_and_does_not_wait_for_its_time() -> None:
    running = Running()
    await asyncio.wait_for(running.drain(1000), 5)
    assert running.draining


async def test_a_drain_without_any_time_is_over_when_nothing_runs() -> None:
    """It failed, and with it the plug-in: the replica ended as if vLLM had crashed."""
    running = Running()
    await asyncio.wait_for(running.drain(0), 5)
    assert running.draining


def test_the_longest_of_the_last_steps_says_what_the_next_may_take() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    for seconds in (1.0, 3.0, 2.0):
        pace.stepped(0, 1, 2)
        now[0] += seconds
    assert (pace.steps, pace.running, pace.waiting, pace.step_seconds) == (3, 1, 2, 3.0)
    pace.stepped(0, 0, 0)
    now[0] += 500  # nobody asked for anything
    pace.stepped(0, 1, 0)
    assert pace.step_seconds == 3.0


def test_the_kv_caches_of_all_cores_count_and_those_of_idle_ones_are_empty() -> None:
    pace = Pace()
    assert pace.kv_used == 0.0
    pace.stepped(0, 3, 0, 0.5)
    pace.stepped(1, 1, 0, 0.25)
    assert pace.kv_used == 0.375
    pace.stepped(1, 0, 0, 0.01)
    assert pace.kv_used == 0.25


def test_of_the_first_long_prompt_the_speed_of_the_self_test_says_what_its_step_may_take() -> None:
    """vLLM takes 2,048 tokens of it in one step on a CPU: at 20 tokens/s that is more than the 60 s of liveness."""
    pace = Pace()
    pace.measured(20.0, 2048)
    state = State(running=1, step_seconds=pace.expected(100_000))
    assert 2048 / 20 <= state.patience(Policy()) < 200
    assert State(running=1, step_seconds=pace.expected(100)).patience(Policy()) == 60
    pace.measured(20.0, 2048, 100.0)
    assert pace.expected(100_000) == 20.48, "as measured, where that is slower"
    pace.measured(20.0, 2048, 5000.0)
    assert pace.expected(100_000) == 10.24, "a long prompt is slower than the one that was measured"
    pace.measured(0.0, 2048)
    assert pace.expected(100_000) == 0


async def test_how_long_the_prompts_at_hand_can_be_is_known() -> None:
    door = Door()
    door.served = served()
    behind = Behind(START, LAST)
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(door.running.longest_prompt)
        await behind(scope, receive, send)

    for text in ("a", "a" * 40):
        await ask(Gate(app, door), "/v1/completions", {"prompt": text, "max_tokens": 1})
    assert 1 <= seen[0] < seen[1] and seen[1] >= 40
    for side in (8, 1960):  # an encoder takes its time with a large picture
        parts = [{"type": "image_url", "image_url": {"url": url(file(Image.new("RGB", (side, side))))}}]
        await ask(Gate(app, door), "/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]})
    assert 1024 <= seen[2] < 2048 and 4900 <= seen[3] < 6000
    assert door.running.longest_prompt == 0


def test_our_metrics_stand_beside_those_of_vllm() -> None:
    now = [0.0]
    pace, running = Pace(lambda: now[0]), Running()
    for _ in range(3):
        pace.stepped(0, 1, 0)
        now[0] += 0.5
    registry = CollectorRegistry()
    registry.register(OurMetrics("apps/demo", running, pace))
    text = generate_latest(registry).decode()
    assert 'llmservice:draining{engine="0",model_name="apps/demo"} 0.0' in text
    assert 'llmservice:step_seconds_count{engine="0",model_name="apps/demo"} 2.0' in text
    assert 'llmservice:step_seconds_sum{engine="0",model_name="apps/demo"} 1.0' in text


def test_a_plug_in_that_vllm_never_came_to_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Phase, str]] = []

    class Telling(Reporter):
        def phase(self, phase: Phase, progress: float | None = None, detail: str = "") -> None:
            told.append((phase, detail))

    link = Link(Telling(None), 0.0)
    for number, name in enumerate(NAMES):
        link.came(name, Phase.LOADING)
        assert all(later in told[-1][1] for later in NAMES[number + 1 :]) and name not in told[-1][1]
    assert told[-1][1] == ""


@pytest.mark.parametrize(
    ("error", "failure", "said"),
    [
        (ImportError("no name 'x'\nand more"), FailureClass.ENGINE_NOT_INSTALLED, "ImportError: no name 'x'."),
        (ExceptionGroup("tasks", [KeyError("x")]), FailureClass.CRASHED, "KeyError: 'x'."),
        (ValueError(), FailureClass.CRASHED, "ValueError."),
        (
            UserError("No token came.", "", FailureClass.SELF_TEST_FAILED),
            FailureClass.SELF_TEST_FAILED,
            "No token came.",
        ),
    ],
)
def test_a_plug_in_that_fails_ends_the_process_with_its_name(
    monkeypatch: pytest.MonkeyPatch, error: Exception, failure: FailureClass, said: str
) -> None:
    told: list[UserError] = []

    class Telling(Reporter):
        def failure(self, error: UserError) -> None:
            told.append(error)

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", end)
    with pytest.raises(SystemExit, match="1"), Link(Telling(None), 0.0).or_end(NAMES[0]):
        raise error
    assert told[0].failure is failure and told[0].reason.endswith(said)
    assert isinstance(error, UserError) or NAMES[0] in told[0].reason


@pytest.mark.parametrize(
    ("tokens", "pieces", "said"),
    [
        (["a", "b", "</s>"], ["a", "b", ""], ["a", "b"]),
        (["<think>", "x", "</think>", "a"], ["", "", "", "a"], ["a"]),
        (["th", "e st"], ["th", "e"], ["th", "e"]),
        (["", "\u00e9", "b"], ["", "\u00e9", "b"], ["", "\u00e9", "b"]),
        (["a", "bc"], ["", "abc"], ["a", "bc"]),
        (["a", "", "b", "c"], ["a", "", "\ufffdb", "c"], ["a", "", "\ufffdb", "c"]),
        (["", "", "b"], ["", "", " \ufffd\ufffdb"], ["", "", " \ufffd\ufffdb"]),
        (["", "\ufffdb", "c"], ["", "\u00e9b", "c"], ["", "\u00e9b", "c"]),
        (["", "<|x|>", "b"], ["", "\ufffd", "b"], ["", "\ufffdb"]),
        (["a", ""], ["a", ""], ["a", ""]),
        (["e"], [""], []),
        (["", "ang"], ["", " \ufffd"], ["", " \ufffd"]),
        (["<|x|>", "b"], ["", "\u5a38 b"], ["\u5a38 b"]),
    ],
)
def test_log_probabilities_belong_to_the_text(tokens: list[str], pieces: list[str], said: list[str]) -> None:
    entries = [{"token": token, "logprob": -1.0} for token in tokens]
    message = {"index": 0, "message": {"content": "".join(pieces)}, "logprobs": {"content": entries}}
    found = json.loads(Trimmed().whole(json.dumps({"choices": [message]}).encode()))
    assert [entry["token"] for entry in found["choices"][0]["logprobs"]["content"]] == said
    stream, shown = Trimmed(), []
    for number, piece in enumerate(pieces):
        told = {"tokens": [tokens[number]], "token_logprobs": [-1.0], "top_logprobs": [None], "text_offset": [0]}
        last = "stop" if number == len(pieces) - 1 else None
        choice = {"index": 0, "text": piece, "logprobs": told, "finish_reason": last}
        chunk = stream.event(b"data: " + json.dumps({"choices": [choice]}, separators=(",", ":")).encode() + b"\n\n")
        shown += json.loads(chunk.removeprefix(b"data: "))["choices"][0]["logprobs"]["tokens"]
    assert shown == said
    assert stream.event(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"


@pytest.mark.parametrize(("codes", "ended"), [([-9], -9), ([0, -11], -11), ([1], 1), ([], 1)])
def test_the_api_server_ends_as_its_engine_core_did(codes: list[int], ended: int) -> None:
    """A core that the kernel killed for memory is to be told from one that failed."""
    code = f"from llmservice_runtime.engines.vllm.serve.processes import end_as; end_as({codes})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == ended


async def test_metrics_of_vectors_count_requests_and_not_their_texts() -> None:
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    line = b'vllm:num_requests_running{engine="0",model_name="m"} '
    helped = b"# HELP vllm:num_requests_running 1\n"
    out = in_requests(send, 2, 5)
    await out({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9"), (b"x", b"y")]})
    await out({"type": "http.response.body", "body": helped + line[:9], "more_body": True})
    await out({"type": "http.response.body", "body": line[9:] + b"128.0\nvllm:num_requests_waiting 7.0\nother 3.0\n"})
    assert told[1]["body"] == helped + line + b"2.0\nvllm:num_requests_waiting 5.0\nother 3.0\n"
    assert told[0]["headers"] == [(b"x", b"y"), (b"content-length", str(len(told[1]["body"])).encode())]
