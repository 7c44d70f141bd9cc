"""The clients of Anthropic and OpenAI, as they are, against the real gateway before the real engine."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from machine_world import Here  # type: ignore[import-not-found]

pytestmark = pytest.mark.engine
PAGE = Path(__file__).parents[3] / "docs" / "protocols.md"
QUESTION = "What is LLMService?"
ANSWER = "LLMService is a Kubernetes operator"
ASK = "What is the weather in Paris?"
USER: list[Any] = [{"role": "user", "content": QUESTION}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"name": "get_weather", "description": "The weather in a city.", "input_schema": SCHEMA}
FUNCTION: Any = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}


@pytest.fixture
def claude(demo: Here) -> Iterator[anthropic.Anthropic]:
    url = demo.snapshot()["url"].removesuffix("/v1")
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(demo: Here) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=demo.snapshot()["url"], api_key="none", max_retries=0) as client:
        yield client


def metric(demo: Here, pattern: str) -> int:
    """The sum of what the gateway's /metrics has."""
    with urllib.request.urlopen(f"{demo.snapshot()['url'].removesuffix('/v1')}/metrics") as answer:
        text = answer.read().decode()
    return sum(int(float(value)) for value in re.findall(pattern + r" (\S+)", text))


@pytest.mark.parametrize("number", range(3))
def test_the_code_of_the_page_works_as_pasted(demo: Here, number: int) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[number]
    base = demo.snapshot()["url"].removesuffix("/v1")
    pasted = code.replace("http://127.0.0.1:8080", base)
    assert pasted != code
    shell = subprocess.run([sys.executable, "-c", pasted], capture_output=True, text=True, timeout=60, check=True)
    assert (("LLMService", "get_weather", "LLMService")[number]) in shell.stdout


def test_refusals_are_those_of_each_protocol(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(model="nobody", max_tokens=8, messages=USER)
    body: Any = missing.value.body
    assert body["type"] == "error" and body["error"]["type"] == "not_found_error" and missing.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude.post("/v1/messages", body={"model": "demo", "messages": USER}, cast_to=object)
    long: list[Any] = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(anthropic.BadRequestError, match="context"):
        claude.messages.create(model="demo", max_tokens=8, messages=long)
    with pytest.raises(openai.BadRequestError, match="nothing is stored") as stored:
        gpt.responses.create(model="demo", input="Hi", previous_response_id="resp_1")
    assert (stored.value.param, stored.value.code) == ("previous_response_id", "unsupported_parameter")
    with pytest.raises(openai.NotFoundError, match="No response is stored"):
        gpt.responses.retrieve("resp_1")


def test_a_client_that_leaves_frees_the_engine(demo: Here, claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    flight = r'llmservice_gateway_in_flight\{service="default/demo"\}'
    drawn = r'_tokens_total\{kind="completion".*\}'
    long = {"type": "object", "properties": {"a": {"type": "string", "minLength": 6000}}, "required": ["a"]}
    held: Any = {"type": "json_schema", "schema": long}
    before = metric(demo, drawn)
    asked: Any = {"model": "demo", "max_tokens": 1800, "messages": USER, "output_config": {"format": held}}
    with claude.messages.create(stream=True, **asked) as stream:
        assert [event.type for event, _ in zip(stream, range(6), strict=False)][-1] == "content_block_delta"
    text: Any = {"format": {"name": "long", **held}}
    with gpt.responses.create(model="demo", input=QUESTION, max_output_tokens=1800, stream=True, text=text) as events:
        assert next(event for event in events if event.type == "response.output_text.delta")
    for _ in range(500):
        if metric(demo, flight) == 0:
            break
        time.sleep(0.02)
    assert metric(demo, flight) == 0
    assert 0 < metric(demo, drawn) - before < 3000
