"""Reading one or several generations of an engine, and what its errors are in HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from llmservice_runtime.protocol.engine import (
    Delta,
    Engine,
    FinishReason,
    GenerationRequest,
    GrammarError,
    QueueFullError,
    UnknownAdapterError,
)
from llmservice_runtime.protocol.pooling import NoNumbersError
from llmservice_runtime.wire.errors import ApiError, bad_request, internal, queue_full, unavailable


@asynccontextmanager
async def submitted(
    engine: Engine, requests: Sequence[GenerationRequest], *, batch: bool = False
) -> AsyncIterator[AsyncIterator[Delta]]:
    """Deltas of all requests; answers of request k have index k*n + i. Leaving the context cancels what still runs.
    `batch`: they go behind live ones."""
    answers = sum(request.n for request in requests)
    if answers > engine.max_answers:
        # Not a full queue: sending it again could never help.
        message = f"{answers} answers are asked for at once; this replica runs and queues at most {engine.max_answers}."
        raise bad_request(f"{message} Send fewer prompts or a smaller `n`.", "n")
    sources: list[AsyncIterator[Delta]] = []
    merged: AsyncIterator[Delta] | None = None
    try:
        sources.extend(engine.submit(replace(request, batch=batch) if batch else request) for request in requests)
        merged = sources[0] if len(sources) == 1 else _merged(sources, requests[0].n)
        yield merged
    finally:
        if merged is not None and merged is not sources[0]:
            await close(merged)
        for source in sources:
            await close(source)


async def close(deltas: AsyncIterator[Delta]) -> None:
    """Close an iterator that may have nothing to close."""
    aclose = getattr(deltas, "aclose", None)
    if aclose is not None:
        await aclose()


async def _merged(sources: Sequence[AsyncIterator[Delta]], n: int) -> AsyncIterator[Delta]:
    """All sources as they come; one pending delta per source at most, so a slow reader slows each of them."""
    pending = {asyncio.ensure_future(_next(source)): number for number, source in enumerate(sources)}
    try:
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                number = pending.pop(task)
                delta = task.result()
                if delta is not None:
                    pending[asyncio.ensure_future(_next(sources[number]))] = number
                    yield replace(delta, index=number * n + delta.index)
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _next(source: AsyncIterator[Delta]) -> Delta | None:
    return await anext(source, None)


def check(delta: Delta) -> Delta:
    """The delta, unless it ends its answer with a failure: then ApiError."""
    if delta.finish_reason is FinishReason.ERROR and delta.unfit:
        raise _unfit(delta.error or "no token may follow")
    if delta.finish_reason is FinishReason.ERROR:
        raise internal(f"Generation failed: {delta.error or 'the engine gave no reason'}")
    if delta.finish_reason is FinishReason.ABORT:
        raise unavailable("Generation was stopped before its end.", "aborted", 1)
    return delta


def as_api_error(error: Exception) -> ApiError | None:
    """The answer for an error that an engine may raise; None for what is a fault of ours."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFullError):
        if error.draining:
            return unavailable(str(error), "draining", error.retry_after)
        return queue_full(str(error), error.retry_after)
    if isinstance(error, UnknownAdapterError):
        return ApiError(
            404, f"The adapter `{error}` is not served here any more.", code="model_not_found", param="model"
        )
    if isinstance(error, GrammarError):
        return _unfit(str(error))
    if isinstance(error, NoNumbersError):
        return internal(str(error))
    return None


def _unfit(reason: str) -> ApiError:
    return bad_request(f"The answer can't be held to this grammar: {reason}", "response_format", "invalid_grammar")
