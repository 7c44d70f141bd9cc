"""Batch work goes behind live requests, and its answers are what they would be without these."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from llmservice_runtime.wire.priority import BATCH, HEADER

from .api import ANSWER, CHAT, TEXT, Api
from .engines import NAME
from .test_greedy_answers import QUESTIONS

ENDLESS = {"ignore_eos": True, "max_tokens": 100}


def ask(api: Api, **fields: Any) -> Any:
    body = {"model": NAME, "temperature": 0, **fields}
    reply = api.send(CHAT, body, **{HEADER: BATCH})
    assert reply.status == 200, reply.raw
    return reply.body


def test_it_says_what_live_requests_are_told_though_these_come_again_and_again(api: Api) -> None:
    def answer(pair: dict[str, str]) -> str:
        said = ask(api, messages=[{"role": "user", "content": pair["question"]}])
        return str(said["choices"][0]["message"]["content"])

    pairs = QUESTIONS[:24]
    with ThreadPoolExecutor(24) as pool:
        work = [pool.submit(answer, pair) for pair in pairs]
        while not all(future.done() for future in work):
            assert api.say() == ANSWER
    assert [future.result() for future in work] == [pair["answer"] for pair in pairs]


def test_a_live_answer_ends_before_batch_work_that_fills_the_engine(api: Api) -> None:
    """More of it than there are places, all of it longer, all there before."""
    with ThreadPoolExecutor(14) as pool:
        work = [pool.submit(ask, api, messages=[{"role": "user", "content": "Hi"}], **ENDLESS) for _ in range(14)]
        assert api.say() == ANSWER
        assert not all(future.done() for future in work)
        assert all(future.result()["usage"]["completion_tokens"] == 100 for future in work)


@pytest.mark.parametrize("path", [CHAT, TEXT, "/v1/embeddings"])
def test_a_word_that_is_none_is_refused_by_name(api: Api, path: str) -> None:
    body = {"model": NAME, "messages": [], "prompt": "x", "input": "x"}
    reply = api.send(path, body, **{HEADER: "high"})
    assert reply.status == 400
    assert HEADER in reply.error["message"] or path == "/v1/embeddings"  # which first says that this model writes
