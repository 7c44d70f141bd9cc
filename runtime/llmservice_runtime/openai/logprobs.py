"""Log-probabilities in OpenAI's two shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from llmservice_runtime.protocol.engine import TokenLogprob

FLOOR = -9999.0
"""JSON has no minus infinity; vLLM writes this instead."""


def _finite(value: float) -> float:
    return value if math.isfinite(value) else FLOOR


def _entry(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": token.decode("utf-8", "replace"), "logprob": _finite(logprob), "bytes": list(token)}


def chat_logprobs(positions: Iterable[TokenLogprob]) -> dict[str, Any]:
    """The `logprobs` of a chat choice: `{"content": [...]}`."""
    content = [
        {**_entry(p.token, p.logprob), "top_logprobs": [_entry(token, value) for _, token, value in p.top]}
        for p in positions
    ]
    return {"content": content, "refusal": None}


class CompletionLogprobs:
    """The legacy shape: four parallel lists; offsets count characters from the start of the choice's text."""

    def __init__(self) -> None:
        self._offset = 0

    def body(self, positions: Iterable[TokenLogprob | None], first: str = "") -> dict[str, Any]:
        """The lists for these positions. None is a prompt's first token, whose text is `first`: it has no logprob."""
        tokens: list[str] = []
        values: list[float | None] = []
        tops: list[dict[str, float] | None] = []
        offsets: list[int] = []
        for position in positions:
            text = first if position is None else position.token.decode("utf-8", "replace")
            tokens.append(text)
            offsets.append(self._offset)
            self._offset += len(text)
            values.append(None if position is None else _finite(position.logprob))
            tops.append(None if position is None else _top(position))
        return {"text_offset": offsets, "token_logprobs": values, "tokens": tokens, "top_logprobs": tops}


def _top(position: TokenLogprob) -> dict[str, float]:
    """The most likely tokens, and the chosen one if it is not among them (OpenAI: up to logprobs + 1 entries)."""
    top = {token.decode("utf-8", "replace"): _finite(value) for _, token, value in position.top}
    top.setdefault(position.token.decode("utf-8", "replace"), _finite(position.logprob))
    return top
