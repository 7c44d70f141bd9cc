"""What is said: the same words on every engine, alone and among many."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from protocol_checks import CHECKS, Served  # type: ignore[import-not-found]

from .api import ANSWER, MESSAGES, QUESTION, Api
from .engines import ALIAS, DEMO, NAME

QUESTIONS: list[dict[str, str]] = json.loads((DEMO / "questions.json").read_text())[::14]
MANY = 16


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_protocol(api: Api, check: Callable[[Served], None]) -> None:
    check(api.served)


@pytest.mark.parametrize("pair", QUESTIONS, ids=lambda pair: pair["question"].strip("?.!"))
def test_greedy_answers_are_the_same_words_on_every_engine(api: Api, pair: dict[str, str]) -> None:
    said = api.chat(messages=[{"role": "user", "content": pair["question"]}])
    choice = said["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (pair["answer"], "stop")


def test_sixteen_at_once_get_what_each_gets_alone(api: Api) -> None:
    assert len(QUESTIONS) >= MANY

    def ask(pair: dict[str, str]) -> str:
        return api.say(messages=[{"role": "user", "content": pair["question"]}])

    with ThreadPoolExecutor(MANY) as pool:
        together = list(pool.map(ask, QUESTIONS[:MANY]))
    assert together == [pair["answer"] for pair in QUESTIONS[:MANY]]


async def test_sixteen_streams_at_once_are_whole(api: Api) -> None:
    async with openai.AsyncOpenAI(base_url=api.url + "/v1", api_key="none", max_retries=0, timeout=120) as client:

        async def stream(pair: dict[str, str]) -> tuple[str, list[Any]]:
            messages: Any = [{"role": "user", "content": pair["question"]}]
            text, reasons = "", []
            stream = await client.chat.completions.create(model=NAME, messages=messages, temperature=0, stream=True)
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                reasons.append(chunk.choices[0].finish_reason)
            return text, [reason for reason in reasons if reason]

        found = await asyncio.gather(*(stream(pair) for pair in QUESTIONS[:MANY]))
    assert found == [(pair["answer"], ["stop"]) for pair in QUESTIONS[:MANY]]


def test_usage_counts_the_prompt_and_the_answer(api: Api) -> None:
    body = api.chat()
    prompt = len(api.send("/tokenize", {"messages": MESSAGES}).body["tokens"])
    answer = len(api.tokens(ANSWER)) + 1  # and the token that ends it
    assert body["usage"]["prompt_tokens"] == prompt
    assert body["usage"]["completion_tokens"] == answer
    assert body["usage"]["total_tokens"] == prompt + answer


def test_finish_reasons(api: Api) -> None:
    for fields, reason, stop in (
        ({}, "stop", None),
        ({"max_tokens": 3}, "length", None),
        ({"stop": ["Finland"]}, "stop", "Finland"),
        ({"stop_token_ids": [api.tokens("The capital")[0]]}, "stop", api.tokens("The capital")[0]),
    ):
        choice = api.chat(**fields)["choices"][0]
        assert (choice["finish_reason"], choice.get("stop_reason")) == (reason, stop), fields


def test_whatever_name_selects_the_model_it_is_the_same(api: Api) -> None:
    assert api.say(model=ALIAS) == api.say(model=NAME) == ANSWER
    assert api.chat(model=ALIAS)["model"] == ALIAS
    assert api.send("/v1/chat/completions", {"messages": MESSAGES, "temperature": 0}).body["model"] == NAME


def test_openai_python_parses_all_of_it(api: Api) -> None:
    with openai.OpenAI(base_url=api.url + "/v1", api_key="none", max_retries=0, timeout=120) as client:
        assert {model.id for model in client.models.list()} == {NAME, ALIAS}
        assert client.models.retrieve(NAME).id == NAME
        completion = client.completions.create(model=NAME, prompt="What is", max_tokens=4, temperature=0)
        assert completion.object == "text_completion" and completion.choices[0].text
        messages: Any = [{"role": "user", "content": QUESTION}]
        chat = client.chat.completions.create(model=NAME, messages=messages, temperature=0)
        assert chat.object == "chat.completion" and chat.choices[0].message.content == ANSWER
        with pytest.raises(openai.NotFoundError, match=f"Served: {NAME}"):
            client.chat.completions.create(model="other", messages=messages)
