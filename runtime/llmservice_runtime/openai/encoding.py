"""From the text of a prompt to its tokens, whatever its length: off the event loop, a piece at a time.

One thread tokenizes for all requests, another for very long texts. They take turns after every piece, so nobody waits
for the whole of another's text, and a request whose client is gone ends with the piece it is at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from llmservice_runtime.openai.params import too_long
from llmservice_runtime.protocol.engine import Tokenizer

THREAD_CHARS = 16_384
"""Longer texts are tokenized off the event loop; shorter ones take less time than the way to a thread."""
TURN_SECONDS = 0.01
COUNTED = 2
"""A prompt that does not fit is counted up to so many contexts: its author learns by how much it is too long."""

VERY_LONG = 512 << 10
"""Characters. A text without special tokens is one piece, of some megabytes a second."""

_threads = {very: ThreadPoolExecutor(1, "tokenize") for very in (False, True)}


async def encode(
    tokenizer: Tokenizer, text: str, add_special: bool, *, context_tokens: int | None = None, field: str = "prompt"
) -> list[int]:
    """Token ids; special tokens written in the text count as such, as templates need.

    ApiError 400 naming `field` as soon as a long text can't fit `context_tokens` (None = it need not).
    """
    if len(text) < THREAD_CHARS:
        return tokenizer.encode(text, add_special=add_special, parse_special=True)
    run, thread = asyncio.get_running_loop().run_in_executor, _threads[len(text) > VERY_LONG]
    most = None if context_tokens is None else COUNTED * context_tokens
    if context_tokens is not None and most is not None:
        least = await run(thread, tokenizer.at_least, text)
        if least > most:
            raise too_long(context_tokens, f"at least {least}", field)
    parts = tokenizer.parts(text, add_special=add_special, parse_special=True)
    tokens: list[int] = []
    while piece := await run(thread, _turn, parts):
        tokens += piece
        if context_tokens is not None and most is not None and len(tokens) > most:
            raise too_long(context_tokens, f"more than {most}", field)
    return tokens


def _turn(parts: Iterator[list[int]]) -> list[int]:
    """The next tokens, of one turn; none at the end."""
    end = time.monotonic() + TURN_SECONDS
    tokens: list[int] = []
    for part in parts:
        tokens += part
        if tokens and time.monotonic() > end:
            break
    return tokens
