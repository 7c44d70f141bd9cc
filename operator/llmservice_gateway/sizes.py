"""How many tokens a request will take, guessed from its bytes and from what engines counted of earlier ones. Pure."""

from __future__ import annotations

import re

from llmservice_gateway.naming import Asked
from llmservice_gateway.places import Size
from llmservice_gateway.spent import MARK

BYTES_PER_TOKEN, ANSWER_TOKENS = 4.0, 256.0
"""Until something was counted."""
REMEMBERED = 50.0
"""Answers over which is averaged."""
_PROMPT = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,9})')
_ANSWER = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,9})')
USAGE_BYTES = 1024
"""Of a whole answer, before and behind the first word of its usage."""


class Learned:
    """What is known of one service's requests."""

    def __init__(self) -> None:
        self._bytes, self._tokens = BYTES_PER_TOKEN, 1.0
        self._answers, self._answer_tokens = 1.0, ANSWER_TOKENS
        self.bytes_per_token = BYTES_PER_TOKEN
        """Of bodies, whatever JSON adds to a prompt."""
        self.answer_tokens = ANSWER_TOKENS
        """Of one answer, on average."""

    def prompt_tokens(self, asked: Asked) -> int:
        """Of the prompt alone."""
        return round(asked.body_bytes / self.bytes_per_token)

    def size(self, asked: Asked, context_tokens: int) -> Size:
        """What this request will hold at its end; a sequence holds at most `context_tokens` (0 = not known)."""
        if not asked.sequences:
            return Size()
        answer = min(self.answer_tokens, asked.most_tokens) if asked.most_tokens else self.answer_tokens
        tokens = max(1, self.prompt_tokens(asked) + round(answer * asked.sequences))
        return Size(asked.sequences, min(tokens, context_tokens * asked.sequences) if context_tokens else tokens)

    def saw(self, asked: Asked, usage: tuple[int, int] | None) -> None:
        """An engine counted (prompt, answer) tokens of a request."""
        if usage is None or not asked.body_bytes or not usage[0]:
            return
        fade = 1 - 1 / REMEMBERED
        self._bytes, self._tokens = fade * self._bytes + asked.body_bytes, fade * self._tokens + usage[0]
        self._answers = fade * self._answers + asked.sequences
        self._answer_tokens = fade * self._answer_tokens + usage[1]
        self.bytes_per_token = self._bytes / self._tokens
        self.answer_tokens = self._answer_tokens / self._answers


def usage_of(answer: bytes) -> tuple[int, int] | None:
    """The same of a whole answer: the ids of a prompt's tokens may stand behind it."""
    at = answer.rfind(MARK)
    return usage_in(answer[max(0, at - USAGE_BYTES) : at + USAGE_BYTES]) if at >= 0 else None


def usage_in(tail: bytes) -> tuple[int, int] | None:
    """(prompt, answer) tokens as the end of an answer or a stream has them; None where it has none."""
    prompt, answer = _PROMPT.findall(tail), _ANSWER.findall(tail)
    return (int(prompt[-1]), int(answer[-1]) if answer else 0) if prompt else None
