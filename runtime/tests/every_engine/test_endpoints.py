"""Every endpoint, with and without /v1, and what is no request at all."""

from __future__ import annotations

import gzip
import http.client
import json

import pytest

from llmservice_runtime.contract.memory import HOST, Part

from .api import ANSWER, CHAT, DETOKENIZE, MESSAGES, QUESTION, TEXT, TOKENIZE, Api, Reply
from .engines import ALIAS, CONTEXT, NAME, settings
from .replica import Replica


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_every_endpoint_answers_with_and_without_its_prefix(api: Api, prefix: str) -> None:
    chat = api.send(f"{prefix}/chat/completions", {"messages": MESSAGES, "temperature": 0}).body
    assert chat["choices"][0]["message"]["content"] == ANSWER
    assert api.send(f"{prefix}/completions", {"prompt": "What", "max_tokens": 1}).body["object"] == "text_completion"
    assert [card["id"] for card in api.send(f"{prefix}/models").body["data"]] == [NAME, ALIAS]
    assert api.send(f"{prefix}/models/{NAME}").body["id"] == NAME
    assert api.send(f"{prefix}/tokenize", {"prompt": "hi"}).body["count"] >= 1
    assert "prompt" in api.send(f"{prefix}/detokenize", {"tokens": [300]}).body


def test_models_are_listed_as_openai_lists_them(api: Api) -> None:
    body = api.send("/v1/models").body
    assert body["object"] == "list"
    for card in body["data"]:
        assert card["object"] == "model" and card["max_model_len"] == CONTEXT
        assert (card["owned_by"], card["root"], card["parent"]) == ("llmservice", NAME, None)
        assert isinstance(card["created"], int)
    refused = api.refused("/v1/models/none", None, 404)
    assert refused["code"] == "model_not_found" and NAME in refused["message"]


def test_tokens_come_back_as_their_text(api: Api) -> None:
    body = api.send(TOKENIZE, {"prompt": QUESTION, "return_token_strs": True}).body
    assert body["count"] == len(body["tokens"]) == len(body["token_strs"]) and body["max_model_len"] == CONTEXT
    assert "".join(body["token_strs"]) == QUESTION
    assert api.send(TOKENIZE, {"prompt": QUESTION}).body["token_strs"] is None
    assert api.send(DETOKENIZE, {"tokens": body["tokens"]}).body == {"prompt": QUESTION}


def test_health_metrics_and_version(api: Api) -> None:
    health = api.send("/health")
    assert (health.status, health.raw) == (200, b"")
    assert api.send("/version").body.keys() == {"version"}
    metrics = api.send("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=")


def test_probes_of_the_supervisor(replica: Replica) -> None:
    assert [replica.probe(path) for path in ("/livez", "/readyz")] == [(200, "live\n"), (200, "ready\n")]
    started = json.loads(replica.probe("/startupz")[1])
    assert (started["phase"], started["percent"], started["eta_seconds"]) == ("Ready", 100, 0)
    status = replica.status()
    assert status["model"] == NAME and status["engine"] == replica.engine.value
    assert status["live"] and status["ready"] and not status["draining"] and status["last_failure"] is None
    assert status["load_phases"].keys() >= {"Starting", "Loading"}
    code, metrics = replica.probe("/metrics")
    labels = f'engine="0",model_name="{NAME}"'
    assert code == 200 and f"llmservice:draining{{{labels}}} 0.0" in metrics
    assert f"llmservice:engine_restarts_total{{{labels}}} 0.0" in metrics
    assert f'llmservice:load_phase_seconds{{{labels},phase="Loading"}}' in metrics


def test_a_load_is_held_against_the_plan_line_by_line(replica: Replica) -> None:
    replica.wait_for(lambda: replica.status()["load"] is not None)
    load = replica.status()["load"]
    planned = settings(replica.engine).planned_memory
    memory = {Part(line.part): found for line in planned for found in load["memory"] if line.name in found["name"]}
    assert memory.keys() == {line.part for line in planned} >= {Part.WEIGHTS, Part.CACHE, Part.ENGINE, Part.RESERVE}
    for part, line in memory.items():
        assert line["where"] == HOST
        assert line["predicted"] == sum(one.bytes for one in planned if one.part is part)
        assert (line["measured"] is None) == (part is Part.RESERVE), "the engine tells of itself"
        assert part is Part.RESERVE or line["measured"] > 0
    measured = load["measured"]
    assert sum(line["measured"] or 0 for line in load["memory"]) == measured["host"] < 1.1 * load["predicted"]["host"]
    # The demo model is so small that vLLM's packing and its allocator are as much again.
    assert abs(memory[Part.WEIGHTS]["measured"] - memory[Part.WEIGHTS]["predicted"]) < 64 << 20
    assert memory[Part.CACHE]["measured"] <= 1.1 * memory[Part.CACHE]["predicted"]
    assert measured["files"] == load["predicted"]["files"] and load["findings"] == []
    assert load["phases"].keys() >= {"Starting", "Loading", "SelfTest"} and load["tokens_per_second"] > 0
    assert load["prompt_tokens_per_second"] > load["tokens_per_second"] and load["together_tokens_per_second"] > 0
    assert 0 < sum(load["phases"].values()) <= load["seconds"] + 0.01


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/v1/nothing", "GET", 404, "not_found"),
        ("/v1/embeddings", "POST", 400, "wrong_task"),
        ("/rerank", "POST", 400, "wrong_task"),
        ("/v1/score", "POST", 400, "wrong_task"),
        ("/v1/responses", "POST", 404, "not_found"),
        ("/docs", "GET", 404, "not_found"),
        (CHAT, "GET", 405, "method_not_allowed"),
        ("/v1/models", "DELETE", 405, "method_not_allowed"),
    ],
)
def test_what_is_no_endpoint(api: Api, path: str, method: str, status: int, code: str) -> None:
    reply = api.send(path, b"{}" if method == "POST" else None, method)
    assert (reply.status, reply.error["code"]) == (status, code)


@pytest.mark.parametrize("path", [CHAT, TEXT, TOKENIZE, DETOKENIZE])
def test_bodies_that_are_none(api: Api, path: str) -> None:
    for body in (b"", b"{", b"[]", b'"x"', b'{"a": NaN}', b"\xff\xfe", b'{"a": "\\ud800"}', b"[" * 100_000):
        assert api.refused(path, body)["code"] == "invalid_json", body
    packed = api.send(path, gzip.compress(b"{"), **{"Content-Encoding": "gzip"})
    assert (packed.status, packed.error["code"]) == (400, "invalid_json")
    broken = api.send(path, b"no gzip", **{"Content-Encoding": "gzip"})
    assert (broken.status, broken.error["code"]) == (400, "invalid_encoding")
    unknown = api.send(path, b"{}", **{"Content-Encoding": "br"})
    assert (unknown.status, unknown.error["code"]) == (415, "unsupported_encoding")


POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
NO_HTTP = {
    "nonsense": (b"NONSENSE\r\n\r\n", "malformed_request"),
    "tls": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", "malformed_request"),
    "version": (b"GET / HTTP/9.9\r\n\r\n", "malformed_request"),
    "method": (b"FOO /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", "malformed_request"),
    "no-host": (b"GET /health HTTP/1.1\r\n\r\n", "malformed_request"),
    "header": (b"GET /health HTTP/1.1\r\nHost: localhost\r\nBad Header\r\n\r\n", "malformed_request"),
    "length": (POST + b"Content-Length: -1\r\n\r\n", "malformed_request"),
    "chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "malformed_request"),
    "long-path": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", "headers_too_large"),
    "long-header": (POST + b"X: " + b"a" * 20_000 + b"\r\n\r\n", "headers_too_large"),
    "no-end": (POST + b"X: " + b"a" * 200_000, "headers_too_large"),
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_what_is_no_http_has_the_error_body_and_ends_its_connection(api: Api, name: str) -> None:
    sent, code = NO_HTTP[name]
    with api.connected(sent) as connection:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        reply = Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        assert (reply.status, reply.error["code"]) == (431 if code == "headers_too_large" else 400, code)
        assert connection.recv(1) == b""


def test_a_packed_body_is_read(api: Api) -> None:
    body = gzip.compress(json.dumps({"messages": MESSAGES, "temperature": 0}).encode())
    reply = api.send(CHAT, body, **{"Content-Encoding": "gzip"})
    assert reply.body["choices"][0]["message"]["content"] == ANSWER


def test_pages_of_strangers_may_not_call(api: Api) -> None:
    assert api.send("/v1/models", Origin="https://evil.example").status == 403
    assert api.send("/v1/models", Host="evil.example").status == 403
    assert api.send(CHAT, {"messages": MESSAGES}, Origin="https://evil.example").error["message"]


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (TEXT, {"prompt": "x " * 20 * CONTEXT}, "prompt"),
        (TEXT, {"prompt": [5] * CONTEXT}, "prompt"),
        (TEXT, {"prompt": "x", "max_tokens": CONTEXT}, "prompt"),
        (CHAT, {"messages": [{"role": "user", "content": "x " * 20 * CONTEXT}]}, "messages"),
        (CHAT, {"messages": MESSAGES, "max_tokens": CONTEXT}, "messages"),
    ],
)
def test_what_does_not_fit_the_context(api: Api, path: str, fields: dict[str, object], param: str) -> None:
    error = api.refused(path, fields)
    assert (error["code"], error["param"]) == ("context_length_exceeded", param)
    assert f"{CONTEXT}" in error["message"]


def test_the_longest_prompt_that_fits_is_answered(api: Api) -> None:
    body = api.complete(prompt=[300 + n % 200 for n in range(CONTEXT - 2)], max_tokens=2, ignore_eos=True)
    assert body["usage"] == {**body["usage"], "prompt_tokens": CONTEXT - 2, "completion_tokens": 2}
