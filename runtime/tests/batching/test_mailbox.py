"""How deltas cross from a thread to the event loop whose streams they are of."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

from llmservice_runtime.generation.stream import Mailbox, Stream
from llmservice_runtime.protocol.engine import Delta, FinishReason


def a_stream() -> Stream:
    return Stream(1, lambda answers: None, lambda stream: None)


async def text_of(stream: Stream) -> str:
    return "".join([delta.text async for delta in stream])


def deltas(*texts: str) -> list[Delta]:
    found = [Delta(0, text, [1]) for text in texts]
    found[-1].finish_reason = FinishReason.LENGTH
    return found


def test_what_a_thread_posts_is_read_in_its_order() -> None:
    async def main() -> list[str]:
        one, two = a_stream(), a_stream()
        assert one.mailbox is two.mailbox

        def steps() -> None:
            for left, right in zip(deltas("a", "b", "c"), deltas("d", "e", "f"), strict=True):
                one.mailbox.post([(one, left), (two, right)])

        thread = threading.Thread(target=steps)
        thread.start()
        texts = await asyncio.gather(text_of(one), text_of(two))
        thread.join()
        return list(texts)

    assert asyncio.run(main()) == ["abc", "def"]


def test_a_closed_stream_gets_nothing_more() -> None:
    async def main() -> str:
        gone, read = a_stream(), a_stream()
        await gone.aclose()
        read.mailbox.post([(gone, deltas("a")[0]), (read, deltas("b")[0])])
        return await text_of(read)

    assert asyncio.run(main()) == "b"


def test_a_mailbox_goes_with_its_loop() -> None:
    async def main() -> Mailbox:
        return a_stream().mailbox

    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    assert asyncio.run(main()) is not asyncio.run(main())
    gc.collect()
    assert len(list(descriptors.iterdir())) == before
