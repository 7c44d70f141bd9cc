"""From a prompt's text and a request's pictures to tokens: measured first, computed when all else is known."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from llmservice_runtime.openai.encoding import encode
from llmservice_runtime.openai.inputs import frame_of
from llmservice_runtime.openai.params import too_long
from llmservice_runtime.openai.pictures.given import Given
from llmservice_runtime.openai.pictures.marks import split
from llmservice_runtime.openai.worker import KilledError, LostError, Worker
from llmservice_runtime.protocol.engine import Engine
from llmservice_runtime.protocol.pictures import Eyes, Glimpse, Span, UnseenError
from llmservice_runtime.wire.errors import ApiError, bad_request, unavailable

SECONDS = 20.0
"""For one picture to be unpacked: a second is usual for the largest."""
RETRY_SECONDS = 5

_worker = Worker("llmservice_runtime.openai.pictures.decoding")
_thread = ThreadPoolExecutor(1, "unpack")


@dataclass(frozen=True, slots=True)
class Prompt:
    """`tokens` of text and pictures; `shown` are these, with where each begins."""

    tokens: list[int]
    shown: Sequence[tuple[int, Given, Glimpse]] = ()

    async def spans(self, engine: Engine) -> Sequence[Span]:
        """Compute its pictures. ApiError as of `laid_out`."""
        if not self.shown or (eyes := engine.eyes) is None:
            return ()
        found: list[Span] = []
        for at, given, glimpse in self.shown:
            try:
                spans = await eyes.see(glimpse)
            except UnseenError as error:
                raise _unseen(given, error) from error
            found += [replace(span, start=span.start + at) for span in spans]
        return found


async def laid_out(
    engine: Engine, text: str, mark: str, pictures: Sequence[Given], special: bool, context_tokens: int | None
) -> Prompt:
    """Tokens of a prompt; ApiError 400 for one that can't fit, and for a picture that can't be shown, 503."""
    eyes = engine.eyes
    if not pictures or eyes is None:
        return Prompt(await encode(engine.tokenizer, text, special, context_tokens=context_tokens, field="messages"))
    texts, numbers = split(text, mark)
    for number, given in enumerate(pictures):
        if numbers.count(number) != 1:
            message = f"The chat template of this model leaves out the picture `{given.path}`. Send it as the user's."
            raise bad_request(message, given.path, "template_error")
    frame = frame_of(engine.tokenizer) if special else None
    tokens: list[int] = list(frame.before) if frame else []
    shown: list[tuple[int, Given, Glimpse]] = []
    for piece, picture in zip(texts, [*numbers, None], strict=True):
        tokens += await encode(engine.tokenizer, piece, False, context_tokens=context_tokens, field="messages")
        if picture is None:
            continue
        glimpse = await _glimpse(eyes, pictures[picture])
        shown.append((len(tokens), pictures[picture], glimpse))
        tokens += glimpse.tokens
        if context_tokens is not None and len(tokens) >= context_tokens:
            raise too_long(context_tokens, f"at least {len(tokens)}, pictures included", "messages")
    tokens += frame.after if frame else ()
    if tokens[-1] < 0:
        raise bad_request("The prompt ends with a picture; let a text follow it, or the answer's turn.", "messages")
    return Prompt(tokens, shown)


async def _glimpse(eyes: Eyes, given: Given) -> Glimpse:
    digest = (await asyncio.to_thread(hashlib.sha256, given.data)).digest()
    if (known := eyes.known(digest)) is not None:
        return known
    width, height, rgb = await unpacked(given)
    try:
        return await eyes.glimpse(digest, width, height, rgb)
    except UnseenError as error:
        raise _unseen(given, error) from error


async def unpacked(given: Given) -> tuple[int, int, bytes]:
    """Width, height and RGB. ApiError 400 for what is broken, 503 where others end the process."""
    answer, rgb = await _asked(given)
    return answer["width"], answer["height"], rgb


async def kept_small(given: Given) -> Given:
    """A picture for who unpacks it again: with no more pixels than `unpacked` has. ApiError as of that."""
    _, data = await _asked(given, file=True)
    return replace(given, data=data) if data else given


async def _asked(given: Given, **question: bool) -> tuple[Mapping[str, Any], bytes]:
    return await asyncio.get_running_loop().run_in_executor(_thread, _unpacked, given, question)


def _unpacked(given: Given, question: Mapping[str, Any]) -> tuple[Mapping[str, Any], bytes]:
    field = f"{given.path}.image_url.url"
    try:
        answer, data = _worker.ask_apart(question, given.data, SECONDS)
    except KilledError as error:
        message = f"The process that unpacks pictures {error} twice; another one takes its place. Ask again."
        raise unavailable(message, "worker_lost", RETRY_SECONDS) from error
    except LostError as error:
        raise bad_request(f"`{field}` can't be unpacked: that {error}.", field, "invalid_picture") from error
    if "broken" in answer:
        raise bad_request(f"`{field}` is a broken picture: {answer['broken']}.", field, "invalid_picture")
    return answer, data


def _unseen(given: Given, error: UnseenError) -> ApiError:
    return bad_request(f"`{given.path}` {error}.", given.path, "invalid_picture")
