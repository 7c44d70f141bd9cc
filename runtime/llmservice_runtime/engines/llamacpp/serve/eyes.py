"""Pictures for llama.cpp: computed in a thread of their own, beside the steps, and kept for the next turn of a chat."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from llmservice_runtime.engines.llamacpp.serve.sight import Chunks, Part, Sight
from llmservice_runtime.protocol.pictures import Glimpse, Span

KEPT_BYTES = 64 << 20
"""Vectors of pictures that were shown last: a chat sends its pictures again with every turn."""


class LlamaEyes:
    """Implements protocol.pictures.Eyes over one loaded projector."""

    def __init__(self, sight: Sight, shown_tokens: int) -> None:
        self.shown_tokens = shown_tokens
        """See Eyes."""
        self._sight = sight
        self._thread = ThreadPoolExecutor(1, "pictures")
        self._kept: OrderedDict[bytes, Glimpse] = OrderedDict()
        """Their `parts` are what was computed. Whoever knows one has it, also when it has gone from here."""

    def known(self, digest: bytes) -> Glimpse | None:
        """See Eyes."""
        return self._kept.get(digest)

    async def glimpse(self, digest: bytes, width: int, height: int, rgb: bytes) -> Glimpse:
        """See Eyes."""
        run = asyncio.get_running_loop().run_in_executor
        chunks = await run(self._thread, self._sight.parts, width, height, rgb)
        return Glimpse(digest, tokens_of(digest, chunks.parts), (chunks,))

    async def see(self, glimpse: Glimpse) -> Sequence[Span]:
        """See Eyes."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._seen, glimpse)

    def _seen(self, glimpse: Glimpse) -> tuple[Span, ...]:
        found = self._kept.get(glimpse.digest, glimpse)
        spans = tuple(part for part in found.parts if isinstance(part, Span)) or self._computed(found)
        self._keep(Glimpse(glimpse.digest, glimpse.tokens, spans))
        return spans

    def _computed(self, glimpse: Glimpse) -> tuple[Span, ...]:
        (chunks,) = glimpse.parts
        assert isinstance(chunks, Chunks)
        spans, at = [], 0
        for part in chunks.parts:
            if part.chunk is not None:
                spans.append(Span(at, self._sight.vectors(part), part.places, part.advance, part.whole))
            at += len(part.tokens) or part.count
        return tuple(spans)

    def _keep(self, glimpse: Glimpse) -> None:
        """As the last one; without its pixels, which nobody needs again."""
        self._kept[glimpse.digest] = glimpse
        self._kept.move_to_end(glimpse.digest)
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)

    def close(self) -> None:
        """When no picture is computed any more: free the projector."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._kept.clear()
        self._sight.close()


def tokens_of(digest: bytes, parts: Sequence[Part]) -> list[int]:
    """The prompt's tokens: those of the text, and for the picture numbers below 0 that depend on all of its file.

    By them the prefix cache knows a picture again: so many bytes of a digest never meet for two pictures.
    """
    size = sum(part.count for part in parts)
    stream = hashlib.shake_128(digest).digest(4 * size)
    marks = iter((-1 - (np.frombuffer(stream, np.uint32) >> 1).astype(np.int64)).tolist())
    tokens: list[int] = []
    for part in parts:
        tokens += part.tokens or [next(marks) for _ in range(part.count)]
    return tokens


def _size(kept: Glimpse) -> int:
    return sum(part.vectors.nbytes for part in kept.parts if isinstance(part, Span))
