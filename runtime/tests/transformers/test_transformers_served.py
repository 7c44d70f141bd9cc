"""The engine process of Transformers on the demo model, asked over HTTP."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from protocol_checks import CHECKS, Served  # type: ignore[import-not-found]
from served_model import DEMO, ENV, PYTHON, Running  # type: ignore[import-not-found]

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("transformers_installed")]
QUESTIONS = json.loads((DEMO.parent / "questions.json").read_text(encoding="utf-8"))
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def engine(transformers_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("demo"))
    assert running.first["kind"] == "ready", running.first
    yield running
    assert running.stop() == 0


def ask(engine: Running, question: str, **fields: Any) -> Any:
    messages = [{"role": "user", "content": question}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 100, **fields}
    return engine.post("/v1/chat/completions", **body)["choices"][0]


def metric(engine: Running, start: str) -> float:
    return sum(float(line.split()[-1]) for line in engine.get("/metrics").splitlines() if line.startswith(start))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_serves_the_protocol(engine: Running, check: Callable[[Served], None]) -> None:
    check(Served(engine.url, "demo", 1024))


def test_questions_are_answered_word_for_word_alone_and_together(engine: Running) -> None:
    some = QUESTIONS[::19]
    with ThreadPoolExecutor(len(some)) as pool:
        together = list(pool.map(lambda pair: ask(engine, pair["question"])["message"]["content"], some))
    assert together == [pair["answer"] for pair in some]
    assert ask(engine, some[0]["question"])["message"]["content"] == some[0]["answer"]


def test_loading_is_told_as_it_goes_on(engine: Running) -> None:
    told = [report["progress"] for report in engine.before if report.get("progress") is not None]
    assert told == sorted(told) and len(told) > 5 and told[-1] > 0.9


def test_tool_calls_and_other_grammars_are_held_to(engine: Running) -> None:
    fields: dict[str, Any] = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    (call,) = ask(engine, "How is the weather?", **fields)["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["city"] in ("Rome", "Oslo")
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert json.loads(ask(engine, "A number?", response_format=shape)["message"]["content"])["a"] in (1, 2)


def test_a_beginning_that_is_known_is_not_computed_again(engine: Running) -> None:
    prompt = "The demo model is small. " * 12
    first, again = (
        engine.post("/v1/completions", prompt=prompt + end, max_tokens=4, temperature=0) for end in ("A", "B")
    )
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 30
    cold = engine.post("/v1/completions", prompt=prompt + "B", max_tokens=4, temperature=0, echo=True, logprobs=1)
    assert cold["choices"][0]["text"].endswith(again["choices"][0]["text"]) and first["choices"]


def test_a_client_that_leaves_frees_its_place(engine: Running) -> None:
    body = json.dumps({"prompt": "abc", "max_tokens": 900, "stream": True, "ignore_eos": True}).encode()
    request = urllib.request.Request(engine.url + "/v1/completions", body, {"Content-Type": "application/json"})
    before = metric(engine, 'vllm:request_success_total{engine="0",finished_reason="abort"')
    with urllib.request.urlopen(request, timeout=60) as stream:
        assert stream.readline().startswith(b"data:")
    while metric(engine, 'vllm:request_success_total{engine="0",finished_reason="abort"') == before:
        ask(engine, "Hello!", max_tokens=1)
    assert metric(engine, "vllm:generation_tokens_total") < 50_000


def test_answers_are_counted_by_how_they_were_computed(engine: Running) -> None:
    assert metric(engine, 'llmservice:answers_by_path_total{engine="0",model_name="demo",path="batched"') > 0
    assert metric(engine, 'llmservice:answers_by_path_total{engine="0",model_name="demo",path="one_by_one"') == 0


def test_long_prompts_and_short_ones_mix(engine: Running) -> None:
    def tokens(number: int) -> int:
        prompt = [5 + number] * (700 if number % 2 else 20)
        answer = engine.post("/v1/completions", prompt=prompt, max_tokens=30, temperature=0, ignore_eos=True)
        return int(answer["usage"]["completion_tokens"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokens, range(8))) == [30] * 8


@pytest.fixture(scope="module")
def kinds(transformers_installed: None, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    script = Path(__file__).with_name("kinds.py")
    command = [PYTHON, script, tmp_path_factory.mktemp("kinds")]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_every_architecture_answers_as_it_generates(kinds: list[dict[str, Any]]) -> None:
    assert len(kinds) == 16
    wrong = [found for found in kinds if "error" in found or not all(found["alone"] + found["together"])]
    assert wrong == []


def test_attention_in_the_usual_way_is_computed_together(kinds: list[dict[str, Any]]) -> None:
    together = {found["kind"] for found in kinds if found["path"] == "batched"}
    usual = {"llama", "mistral", "qwen2", "gemma2", "gemma3_text", "gpt_oss", "qwen3_moe", "gpt2", "opt"}
    assert together == usual
