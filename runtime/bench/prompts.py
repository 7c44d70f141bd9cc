"""Prompts of a wanted length in tokens, all different, so that no prefix cache helps where none should."""

from __future__ import annotations

import random
from collections.abc import Callable

WORDS = tuple(f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in "bdklmnrst")


def make_prompt(seed: str, tokens: int, count: Callable[[str], int]) -> str:
    """A text of about `tokens` tokens (never more) by the given tokenizer, from a seed."""
    rng = random.Random(seed)
    words: list[str] = []
    while True:
        step = max(1, (tokens - count(" ".join(words))) // 6)
        longer = [*words, *rng.choices(WORDS, k=step)]
        if count(" ".join(longer)) > tokens:
            if step == 1:
                return " ".join(words)
            continue
        words = longer
