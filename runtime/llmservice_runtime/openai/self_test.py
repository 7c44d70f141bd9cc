"""The self-test of a load: whether the model says anything, and how fast it is. Of every engine alike.

It warms up in doing so. It takes a tenth of a second where a model is fast, and half of one where it answers some ten
tokens a second: who waits for a replica waits for it too.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass

ANSWER_TOKENS, ANSWER_SECONDS = 16, 0.2
"""What one answer has, and how long at most after its first token..."""
PATIENCE = 10.0
"""...but so many times as long where else no two steps could be counted."""
TOGETHER_TOKENS, TOGETHER_SECONDS, MOST_TOGETHER = 8, 0.2, 256
"""The same of answers that are computed together, and how many."""
LEAST_PROMPT, MOST_PROMPT, LONGER, MOST_PROMPTS = 32, 512, 4, 5
"""Tokens of prompts: each is so many times as long as the one before ..."""
ENOUGH_SECONDS, MOST_SECONDS = 0.05, 1.0
"""... until one takes as long: what a request costs beside its tokens no longer matters then. It is asked again, where
that is worth the wait: what takes the most is not."""
SEED, STEP = 7919, 31

log = logging.getLogger(__name__)


class Came(NamedTuple):
    """What an engine gave at a time: tokens of answers, and how many of the prompt's it had computed before."""

    tokens: int
    cached: int = 0
    error: str = ""


Ask = Callable[[Sequence[int], int, int], AsyncGenerator[Came]]
"""(prompt, tokens of each answer, answers): greedy, and no end token ends one."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second; 0 = it was too short to tell."""

    answer: float = 0.0
    """Of one answer, after its first token."""
    prompt: float = 0.0
    """Of one prompt, when nothing else is computed."""
    together: float = 0.0
    """Of all answers that the engine computes at a time, together."""

    def as_report(self) -> dict[str, float]:
        """For the report `ready`; what is not known is left out."""
        told = {
            "tokens_per_second": self.answer,
            "prompt_tokens_per_second": self.prompt,
            "together_tokens_per_second": self.together,
        }
        return {name: speed for name, speed in told.items() if speed > 0}


async def self_test(
    ask: Ask, encode: Callable[[str], list[int]], context_tokens: int, sequences: int, compiles: bool = True
) -> Speed:
    """UserError SelfTestFailed when no token comes. What else goes wrong leaves a speed unknown: nobody has asked for
    it yet. `sequences`: answers that may be asked for at once. `compiles`: the first prompt of a length may take longer
    than the next."""
    short = encode("Hello") or [0]
    answer = await _answers(ask, short, ANSWER_TOKENS, 1, ANSWER_SECONDS)
    prompt = together = 0.0
    try:
        if not answer:  # they came all at once: who reads them had to wait for a processor
            more = min(LONGER * ANSWER_TOKENS, context_tokens - len(short))
            answer = await _answers(ask, short, more, 1, ANSWER_SECONDS)
        prompt = await _prompts(ask, encode, context_tokens, MOST_SECONDS if compiles else ENOUGH_SECONDS)
        count = min(sequences, MOST_TOGETHER)
        together = await _answers(ask, short, TOGETHER_TOKENS, count, TOGETHER_SECONDS) if count > 1 else answer
        together = max(together, answer)
    except Exception:  # whatever the engine has for it
        log.warning("the self-test does not tell how fast prompts, or answers together, are", exc_info=True)
    return Speed(answer, prompt, together)


async def _answers(ask: Ask, prompt: Sequence[int], tokens: int, count: int, seconds: float) -> float:
    """Tokens per second of so many answers after the first of each, as far as they come in time."""
    came, began, problem, steps = 0, 0.0, "no token came", [(0.0, 0)]
    async with aclosing(ask(prompt, tokens, count)) as coming:
        async for one in coming:
            if one.error:
                came, problem = 0, one.error
                break
            came += one.tokens
            now = time.monotonic()
            began = began or (now if came else 0.0)
            if came // count > steps[-1][1] // count:
                steps.append((now, came))
            # Whole steps are there to be counted; or so many can't run at a time here.
            if came and now - began > (seconds if len(steps) > 2 else PATIENCE * seconds):
                break
    if not came:
        raise UserError(
            f"The model loaded but generated nothing of use: {problem}.",
            "Check that the model file is whole and made for this version of the engine.",
            FailureClass.SELF_TEST_FAILED,
        )
    return _per_second(steps[1:])


def _per_second(steps: Sequence[tuple[float, int]]) -> float:
    """Of (time, tokens so far), without the slowest of three or more: it may have had something to compile."""
    took = sorted((after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(steps))
    kept = took[:-1] if len(took) > 2 else took
    seconds = sum(one for one, _ in kept)
    return sum(tokens for _, tokens in kept) / seconds if seconds > 0 else 0.0


async def _prompts(ask: Ask, encode: Callable[[str], list[int]], context_tokens: int, most_seconds: float) -> float:
    """Tokens per second of the fastest: the first of a length may have had something to compile. What takes
    `most_seconds` is not asked twice."""
    most, length, fastest, again = min(MOST_PROMPT, context_tokens - 1), LEAST_PROMPT, 0.0, False
    for number in range(1, MOST_PROMPTS + 1):
        if length > most:
            break
        speed, seconds = await _prompt(ask, _numbers(encode, number, length))
        fastest = max(fastest, speed)
        if again or seconds >= most_seconds:
            break
        again = seconds >= ENOUGH_SECONDS or length * LONGER > most
        length = length if again else length * LONGER
    return fastest


async def _prompt(ask: Ask, prompt: Sequence[int]) -> tuple[float, float]:
    """(tokens per second, seconds) until the first token of its answer."""
    began = time.monotonic()
    async with aclosing(ask(prompt, 1, 1)) as coming:
        async for one in coming:
            if one.tokens:
                seconds = time.monotonic() - began
                return max(0, len(prompt) - one.cached) / seconds if seconds > 0 else 0.0, seconds
    return 0.0, MOST_SECONDS


def _numbers(encode: Callable[[str], list[int]], number: int, length: int) -> list[int]:
    """A prompt that begins as no other does: an engine computes again what it has not computed before."""
    return encode(" ".join(str(SEED * number + STEP * each) for each in range(length)))[:length]
