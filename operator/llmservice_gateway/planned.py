"""How long an answer may take to begin (of one that is no stream: to be there), by its replica's measured speed. Pure.

Whether a replica lives at all is asked of it meanwhile (waiting.py); this is for a request that it has lost. So the
bound is generous: a machine that is slow, and does what it was planned to do, is never cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmservice_gateway.naming import Asked
from llmservice_gateway.places import Capacity, Size, Speed

GENEROUS = 20.0
"""Times what is planned: prompts were guessed by their bytes, speed was measured once, and alone."""
LEAST_SECONDS, MOST_SECONDS = 600.0, 86_400.0
UNMEASURED_SECONDS = 3600.0
"""Where the replica told no speed."""
LONG_PROMPT = 8192
"""Tokens. A prompt of so many takes twice as long for each of them as a short one: every one looks at all before it."""


@dataclass(frozen=True, slots=True)
class Given:
    """A request that has a place: what it asks for and takes, tokens of its prompt, and what was there before it."""

    asked: Asked
    size: Size
    prompt: int
    beside: Size


def answer_seconds(given: Given, speed: Speed, capacity: Capacity, context_tokens: int, waiting: int = 0) -> float:
    """Seconds until it has to have begun. `waiting`: requests in the replica's queue.

    All that its KV cache holds may be prompts that are computed before this one. Where there may be a queue before it,
    that goes on when the longest answer ends that can be.
    """
    each = speed.together / capacity.sequences if capacity.sequences else 0.0
    if not speed.prompt or not each or not context_tokens:
        return UNMEASURED_SECONDS
    prompts = max(capacity.kv_tokens, given.beside.tokens) + given.prompt * (1 + given.prompt / LONG_PROMPT)
    answers = 0
    if given.asked.sequences and (waiting or not _runs(given, capacity)):
        answers += context_tokens
    if given.asked.sequences and not given.asked.streams:
        answers += min(given.asked.most_tokens or context_tokens, context_tokens)
    seconds = GENEROUS * (prompts / speed.prompt + answers / each)
    return min(max(LEAST_SECONDS, seconds), MOST_SECONDS)


def _runs(given: Given, capacity: Capacity) -> bool:
    """Whether it is computed at once beside what was there."""
    both = given.beside + given.size
    return both.sequences <= capacity.sequences and (not capacity.kv_tokens or both.tokens <= capacity.kv_tokens)
