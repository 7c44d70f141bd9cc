"""How much of pictures vLLM has at a time: requests with more wait before it, in their order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pictures.drawn import file, url  # type: ignore[import-not-found]
from PIL import Image
from test_around_vllm import MESSAGES, Behind, ask, served, whole  # type: ignore[import-not-found]

from llmservice_runtime.engines.vllm.serve.gate import Door, Gate
from llmservice_runtime.openai.pictures.headers import kept_pixels
from llmservice_runtime.openai.pictures.looking import Looking
from llmservice_runtime.wire.priority import BATCH, HEADER

CHAT = "/v1/chat/completions"


def shown(pixels: int) -> Any:
    picture = url(file(Image.new("RGB", (pixels, 1), "red")))
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}]}]}


def asked(gated: Gate, pixels: int, **more: Any) -> Any:
    return asyncio.ensure_future(ask(gated, CHAT, shown(pixels), **more))


async def have(application: Behind, count: int) -> None:
    while len(application.bodies) < count:  # noqa: ASYNC110 - the application rings no bell
        await asyncio.sleep(0.001)


async def test_pictures_wait_for_others_and_text_for_none() -> None:
    application, left = Behind(*whole({})), asyncio.Event()
    application.hold = asyncio.Event()
    gated = Gate(application, Door(served=served(looking=Looking(100, 50))))
    async with asyncio.timeout(20):
        first = asked(gated, 60)
        await have(application, 1)
        gone, second, batch = asked(gated, 90, left=left), asked(gated, 60), asked(gated, 10, **{HEADER: BATCH})
        text = asyncio.ensure_future(ask(gated, CHAT, {"messages": MESSAGES}))
        await have(application, 2)
        assert isinstance(application.bodies[1]["messages"][0]["content"], str), "the text went by"
        left.set()
        assert (await gone)[0] == 0
        assert len(application.bodies) == 2
        application.hold.set()
        assert [status for status, *_ in await asyncio.gather(first, second, batch, text)] == [200] * 4
    assert len(application.bodies) == 4, "who left was not asked for"


async def test_more_requests_than_a_replica_has_places_are_told_to_come_again() -> None:
    application = Behind(*whole({}))
    application.hold = asyncio.Event()
    gated = Gate(application, Door(served=served(looking=Looking(100, 50))))
    async with asyncio.timeout(20):
        work = [asked(gated, 100) for _ in range(6)]
        await have(application, 1)
        status, headers, _ = await ask(gated, CHAT, shown(1))
        assert status == 429 and int(headers[b"retry-after"]) > 0
        counts = await ask(gated, "/tokenize", shown(1))
        assert counts[0] == 429, "they are laid out to be counted too"
        application.hold.set()
        await asyncio.gather(*work)
        assert (await ask(gated, "/tokenize", shown(1)))[0] == 200


@pytest.mark.parametrize(("size", "pixels"), [((3, 5), 15), ((2048, 2048), 1 << 22), ((4000, 3000), 1 << 22)])
def test_what_a_picture_counts(size: tuple[int, int], pixels: int) -> None:
    assert kept_pixels(file(Image.new("1", size))) == pixels
