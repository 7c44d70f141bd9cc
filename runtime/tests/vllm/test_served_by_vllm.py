"""vLLM under our supervisor, on the demo model. One replica for most of it: a start takes half a minute."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from protocol_checks import (  # type: ignore[import-not-found]
    CHECKS,
    Served,
    many_at_once_get_what_each_gets_alone,
)
from replica import Replica, alive, get, wait  # type: ignore[import-not-found]

pytestmark = [pytest.mark.vllm, pytest.mark.usefixtures("vllm_installed")]

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]},
    },
}
NO_SCHEMA = {"type": "json_schema", "json_schema": {"type": "nothing"}}
PICTURE = {"role": "user", "content": [{"type": "image_url"}]}
LONG: dict[str, Any] = {**CHAT, "max_tokens": 1900, "ignore_eos": True, "stream": True}
GONE_SECONDS = 5


@pytest.fixture(scope="module")
def replica(vllm_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    replica = Replica(tmp_path_factory.mktemp("vllm"), progress_seconds=10, drain_seconds=4)
    try:
        yield replica.ready()
    finally:
        replica.stop()


def error(answer: tuple[int, dict[str, str], bytes]) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(answer[2])["error"]
    assert set(body) == {"message", "type", "code", "param"}
    return body


def events(raw: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream that ended well."""
    lines = [line for line in raw.split(b"\n\n") if line and not line.startswith(b":")]
    assert lines[-1] == b"data: [DONE]"
    return [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]


FEW = [check for check in CHECKS if check is not many_at_once_get_what_each_gets_alone]
"""This replica takes six at once."""


@pytest.mark.parametrize("check", FEW, ids=lambda check: check.__name__)
def test_it_answers_as_every_engine_does(replica: Replica, check: Any) -> None:
    check(Served(replica.url, "apps/demo", 2048))


def test_it_is_vllm_and_says_what_the_others_say(replica: Replica) -> None:
    status, _, raw = replica.post("/v1/chat/completions", {**CHAT, "max_tokens": 20})
    assert status == 200 and "Paris" in json.loads(raw)["choices"][0]["message"]["content"]
    assert any("EngineCore" in name for name in replica.processes().values())
    phases = replica.status()["load_phases"]
    assert {"Starting", "Loading", "SelfTest"} <= set(phases)


def test_a_client_is_answered_with_the_name_that_it_asked_for(replica: Replica) -> None:
    for fields in ({}, {"stream": True}):
        _, _, raw = replica.post("/v1/chat/completions", {**CHAT, "max_tokens": 3, "model": "demo", **fields})
        bodies = events(raw) if fields else [json.loads(raw)]
        assert {body["model"] for body in bodies} == {"demo"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_calls_are_the_same_streamed_and_whole_and_held_to_their_schema(replica: Replica, choice: Any) -> None:
    body = {**CHAT, "tools": [WEATHER], "tool_choice": choice, "max_tokens": 100}
    whole = json.loads(replica.post("/v1/chat/completions", body)[2])["choices"][0]
    (call,) = whole["message"]["tool_calls"]
    assert whole["finish_reason"] == "tool_calls" and whole["message"]["content"] is None
    assert json.loads(call["function"]["arguments"])["city"] in ("Rome", "Oslo")
    chunks = events(replica.post("/v1/chat/completions", {**body, "stream": True})[2])
    deltas = [c for chunk in chunks for c in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert [delta["function"].get("name") for delta in deltas if delta.get("id")] == ["get_weather"]
    assert "".join(delta["function"].get("arguments") or "" for delta in deltas) == call["function"]["arguments"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({**CHAT, "bad_words": ["x"]}, "unsupported_parameter", "bad_words"),
        ({**CHAT, "no_such_field": 1}, "unsupported_parameter", "no_such_field"),
        ({**CHAT, "temperature": 3}, "invalid_value", "temperature"),
        ({**CHAT, "max_tokens": 4000}, "context_length_exceeded", "messages"),
        ({**CHAT, "response_format": NO_SCHEMA}, "invalid_grammar", "response_format"),
        ({**CHAT, "messages": [PICTURE]}, "unsupported_parameter", "messages.0.content.0"),
        (b"{", "invalid_json", None),
    ],
)  # fmt: skip
def test_refusals_have_our_body_and_name_the_field(replica: Replica, body: Any, code: str, param: str | None) -> None:
    answer = replica.post("/v1/chat/completions", body)
    said = error(answer)
    assert answer[0] == 400 and said["code"] == code and said["type"] == "invalid_request_error"
    assert param is None or said["param"] == param


def test_only_our_api_is_there(replica: Replica) -> None:
    for path in ("/v1/responses", "/inference/v1/abort_requests", "/v1/chat/completions/render", "/scale_elastic_ep"):
        assert replica.post(path, {})[0] == 404
    assert error(replica.post("/v1/completions", {"prompt": "a", "model": "other"}))["code"] == "model_not_found"
    assert replica.post("/v1/models", {})[0] == 405


def test_a_web_page_may_not_call_it(replica: Replica) -> None:
    assert replica.post("/v1/completions", {"prompt": "a"}, Origin="https://evil.example")[0] == 403
    assert replica.post("/v1/completions", {"prompt": "a"}, Host="evil.example")[0] == 403


def test_a_full_queue_is_429_with_retry_after_and_is_counted(replica: Replica) -> None:
    with ThreadPoolExecutor(24) as pool:  # it takes six, for seconds each
        body = {**LONG, "max_tokens": 400, "stream": False}
        answers = list(pool.map(lambda _: replica.post("/v1/chat/completions", body), range(24)))
    assert {answer[0] for answer in answers} == {200, 429}
    full = next(answer for answer in answers if answer[0] == 429)
    assert error(full)["code"] == "queue_full" and 1 <= int(full[1]["retry-after"]) <= 120
    assert "vllm:admission_rejections_total{" in get(f"{replica.url}/metrics")[1]


def test_an_engine_core_that_stands_still_fails_livez_and_recovers(replica: Replica) -> None:
    (core,) = (pid for pid, name in replica.processes().items() if "EngineCore" in name)
    asked = threading.Thread(target=replica.post, args=("/v1/chat/completions", {**LONG, "max_tokens": 1500}))
    asked.start()
    wait(lambda: replica.status()["running"] > 0, 60)
    os.kill(core, signal.SIGSTOP)
    try:
        stopped = time.monotonic()
        wait(lambda: replica.probe("/livez")[0] == 503, 100)
        assert time.monotonic() - stopped >= 5 and "NoProgress" in replica.probe("/livez")[1]
    finally:
        os.kill(core, signal.SIGCONT)
    wait(lambda: replica.probe("/livez")[0] == 200, 60)
    asked.join()


def test_a_drain_lets_short_streams_end_and_ends_long_ones_with_an_error(replica: Replica) -> None:
    with ThreadPoolExecutor(2) as pool:
        short = pool.submit(replica.post, "/v1/chat/completions", {**LONG, "max_tokens": 3})
        long = pool.submit(replica.post, "/v1/chat/completions", LONG)
        wait(lambda: replica.status()["running"] + replica.status()["waiting"] > 1 or short.done(), 60)
        children = replica.processes()
        replica.process.send_signal(signal.SIGTERM)
        wait(lambda: replica.state.get("phase") == "Draining", 10)
        wait(lambda: get(f"{replica.url}/health")[0] == 503, 5)
        refused = replica.post("/v1/completions", {"prompt": "a"})
        assert refused[0] == 503 and refused[1]["retry-after"] and error(refused)["code"] == "draining"
        assert events(short.result()[2])
        end = long.result()[2]
    assert (
        b"[DONE]" not in end
        and json.loads(end.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]["code"] == "draining"
    )
    assert replica.process.wait(30) == 0
    assert not [pid for pid in children if alive(pid)]


def test_who_is_killed_leaves_no_engine_process(vllm_installed: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A worker, the API server, and at last the supervisor."""
    replica = Replica(tmp_path_factory.mktemp("killed"), restart=True)
    try:
        for killed in ("VLLM::Worker", "main serve"):
            replica.ready()
            processes = replica.processes()
            (victim,) = (pid for pid, name in processes.items() if killed in name)
            os.kill(victim, signal.SIGKILL)
            wait(lambda left=processes: not any(map(alive, left)), GONE_SECONDS)
            wait(lambda: not replica.state["ready"], 10)
            assert json.loads(replica.record_file.read_text())["failure"] == "Crashed"
        replica.ready()
        processes = replica.processes()
        assert len(processes) >= 3, processes
        replica.process.kill()
        wait(lambda: not any(map(alive, processes)), GONE_SECONDS)
    finally:
        replica.stop()
