"""The worker that tries a grammar out before the engine takes it: `python -m llmservice_runtime.generation.prover`.

A grammar of a few kilobytes can keep its compiler busy for minutes, ask for minutes in the middle of an answer, or end
the process (a chain of 3,000 references). So it is first compiled and walked through here.
"""

from __future__ import annotations

import random
import resource
import time
from typing import Any

import llguidance

from llmservice_runtime.openai.worker import serve

MASK_SECONDS = 0.2
"""Processor time that the choice of one token may take: everybody waits for it."""
STEPS = 64
LONG = 8 << 10
"""Longer grammars are walked through more often."""
STACK = 4 << 20
"""Bytes, half of what the engine's threads have: what is just deep enough here is far from its end there."""
STRUCTURE = frozenset(b'{}[]",:')
"""Bytes that lead on through JSON; a random walk would stay within its first string."""


def prove(text: str) -> str:
    """Why llguidance can't honour this grammar (in its own form); empty = nothing found."""
    tokenizer = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(tokenizer, text, log_level=0)
    if matcher.is_error():
        return str(matcher.get_error())
    for seed in range(8 if len(text) > LONG else 2):
        if problem := _walk(matcher.deep_copy(), random.Random(seed)):
            return problem
    return ""


def _walk(matcher: llguidance.LLMatcher, dice: random.Random) -> str:
    """Go through some answer; what stops it."""
    for _ in range(STEPS):
        begin = time.thread_time()
        mask = matcher.compute_bitmask()
        if matcher.is_error():
            return str(matcher.get_error())
        if time.thread_time() - begin > MASK_SECONDS:
            return f"the choice of one token takes more than {MASK_SECONDS:g} s"
        allowed = [token for token in range(256) if mask[token >> 3] >> (token & 7) & 1]
        if not allowed or matcher.is_stopped():
            return ""
        structure = [token for token in allowed if token in STRUCTURE]
        matcher.consume_token(dice.choice(structure if structure and dice.random() < 0.7 else allowed))
        if matcher.is_error():
            return str(matcher.get_error())
    return ""


def answer(question: Any) -> str:
    """A question is the grammar."""
    return prove(str(question))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    serve(answer)
