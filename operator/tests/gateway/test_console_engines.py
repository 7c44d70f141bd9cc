"""The table of engines for a page: what may be asked, and what holds when it takes too long or goes wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from llmservice_gateway.console.engines import MOST, EnginesTable, question
from llmservice_runtime.wire.errors import ApiError


def table(code: str, **given: Any) -> EnginesTable:
    return EnginesTable([sys.executable, "-c", code], **{"private": False, **given})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"uri": "owner/name"}, "uri"),
        ({"uri": 3}, "uri"),
        ({"uri": "file:///etc"}, "uri"),
        ({"uri": "FILE:///etc"}, "uri"),
        ({"uri": "file:///models/\ud800"}, "uri"),
        ({"uri": "hf://a/b\0"}, "uri"),
        ({"uri": "hf://a/b", "gpu": "--help"}, "gpu"),
        ({"uri": "hf://a/b", "gpus": 2}, "gpu"),
        ({"uri": "hf://a/b", "gpu": "L4", "gpus": 65}, "gpus"),
        ({"uri": "hf://a/b", "gpu": "L4", "gpus": True}, "gpus"),
        ({"uri": "hf://a/b", "memory": "much"}, "memory"),
        ({"uri": "hf://a/b", "memory": "64Mi"}, "memory"),
        ({"uri": "hf://a/b", "memory": [8]}, "memory"),
        ({"uri": "hf://a/b", "secret": "x"}, "secret"),
    ],
)
def test_a_mistake_names_its_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(ApiError) as raised:
        question(body, private=False)
    assert (raised.value.status, raised.value.param) == (400, field)


async def test_the_answer_is_what_the_process_found() -> None:
    echo = "import sys, json; print(json.dumps({'asked': json.load(sys.stdin)}))"
    told = await table(echo).ask({"uri": " hf://owner/name "})
    assert told["asked"]["uri"] == "hf://owner/name"


async def test_what_is_wrong_with_a_model_is_told_with_its_remedy() -> None:
    error = {"error": {"reason": "It is gated.", "remedy": "Accept its licence.", "failure": "ModelGated"}}
    with pytest.raises(ApiError, match=r"It is gated\. Accept its licence\.") as raised:
        await table(f"print({json.dumps(json.dumps(error))})").ask({"uri": "hf://a/b"})
    assert (raised.value.status, raised.value.code) == (422, "ModelGated")


async def test_one_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ApiError) as raised:
        await table("import time; time.sleep(600)", seconds=0.2).ask({"uri": "hf://a/b"})
    assert raised.value.status == 504


async def test_one_that_dies_is_told() -> None:
    with pytest.raises(ApiError) as raised:
        await table("import os; os.abort()").ask({"uri": "hf://a/b"})
    assert raised.value.status == 502


async def test_no_more_than_a_few_at_a_time(tmp_path: Path) -> None:
    begins = f"import os, time; open(f'{tmp_path}/{{os.getpid()}}', 'w'); time.sleep(600)"
    asked = table(begins, seconds=60)
    running = [asyncio.create_task(asked.ask({"uri": "hf://a/b"})) for _ in range(MOST)]
    async with asyncio.timeout(60):
        while len(list(tmp_path.iterdir())) < MOST:  # noqa: ASYNC110, ASYNC240 - seen from outside
            await asyncio.sleep(0.01)
    with pytest.raises(ApiError) as raised:
        await asked.ask({"uri": "hf://a/b"})
    assert raised.value.status == 429
    for task in running:
        task.cancel()
    await asyncio.wait(running)
