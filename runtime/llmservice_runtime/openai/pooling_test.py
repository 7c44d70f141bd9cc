"""The self-test of a model that makes vectors or scores: whether they are numbers, and how fast texts are read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.openai.self_test import Speed
from llmservice_runtime.protocol.pooling import Pooler, PoolInput

MOST_TOKENS = 256
ENOUGH_SECONDS = 0.1


async def pooling_test(pooler: Pooler, encode: Callable[[str], list[int]]) -> Speed:
    """UserError SelfTestFailed when no vector of numbers comes. It warms up in doing so."""
    fastest, length = 0.0, 8
    while length <= min(MOST_TOKENS, pooler.context_tokens):
        tokens = encode(" ".join(str(number) for number in range(length)))[:length]
        began = time.monotonic()
        try:
            (vector,) = await pooler.pool([PoolInput(tokens)])
        except Exception as error:
            raise _failed(f"{type(error).__name__}: {error}") from error
        seconds = time.monotonic() - began
        if not vector or not all(map(math.isfinite, vector)):
            raise _failed("what came has no numbers")
        fastest = max(fastest, len(tokens) / seconds if seconds > 0 else 0.0)
        if seconds > ENOUGH_SECONDS:
            break
        length *= 2
    return Speed(prompt=fastest)


def _failed(problem: str) -> UserError:
    return UserError(
        f"The model loaded but computed nothing: {problem}.",
        "Check that the model file is whole and made for this version of the engine.",
        FailureClass.SELF_TEST_FAILED,
    )
