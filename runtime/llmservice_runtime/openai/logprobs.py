"""Log-probabilities in OpenAI's two shapes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from llmservice_runtime.protocol.engine import TokenLogprob

FLOOR = -9999.0
"""JSON has no minus infinity; vLLM writes this instead."""


def _finite(value: float) -> float:
    return value if math.isfinite(value) else FLOOR


def text_of(position: TokenLogprob) -> str:
    """What the token added to the text: of a character that several tokens make, the last has all."""
    return position.token.decode("utf-8", "replace") if position.text is None else position.text


def _entry(token: bytes, logprob: float, text: str | None = None) -> dict[str, Any]:
    text = token.decode("utf-8", "replace") if text is None else text
    return {"token": text, "logprob": _finite(logprob), "bytes": list(token)}


def chat_logprobs(positions: Iterable[TokenLogprob]) -> dict[str, Any]:
    """The `logprobs` of a chat choice: `{"content": [...]}`."""
    content = [
        {**_entry(p.token, p.logprob, p.text), "top_logprobs": [_entry(token, value) for _, token, value in p.top]}
        for p in positions
    ]
    return {"content": content, "refusal": None}


class CompletionLogprobs:
    """The legacy shape: parallel lists; offsets count characters from the start of the choice's text."""

    def __init__(self, prompt: Sequence[int] = ()) -> None:
        """`prompt`: its tokens, where the ids are a list too."""
        self._offset = 0
        self._prompt = prompt

    def body(self, positions: Iterable[TokenLogprob | None], first: str = "") -> dict[str, Any]:
        """The lists for these positions. None is a prompt's first token, whose text is `first`: it has no logprob."""
        tokens: list[str] = []
        values: list[float | None] = []
        tops: list[dict[str, float] | None] = []
        offsets: list[int] = []
        ids: list[int] = []
        for position in positions:
            text = first if position is None else text_of(position)
            tokens.append(text)
            offsets.append(self._offset)
            self._offset += len(text)
            values.append(None if position is None else _finite(position.logprob))
            tops.append(None if position is None else _top(position))
            if self._prompt:
                ids.append(self._prompt[0] if position is None else position.token_id)
        told = {"token_ids": ids} if self._prompt else {}
        return {"text_offset": offsets, "token_logprobs": values, "tokens": tokens, "top_logprobs": tops, **told}


def _top(position: TokenLogprob) -> dict[str, float]:
    """The most likely tokens, and the chosen one if it is not among them (OpenAI: up to logprobs + 1 entries)."""
    top = {token.decode("utf-8", "replace"): _finite(value) for _, token, value in position.top}
    top.setdefault(position.token.decode("utf-8", "replace"), _finite(position.logprob))
    return top


class ContentLogprobs:
    """Of an answer that is read (thinking, tool calls), the positions of its content.

    All places count characters from the start of the answer's text.
    """

    def __init__(self) -> None:
        self._positions: deque[TokenLogprob] = deque()
        self._at = 0
        """Where the text of the first position begins."""
        self._spans: deque[tuple[int, int]] = deque()

    def add(self, positions: Iterable[TokenLogprob], spans: Iterable[tuple[int, int]]) -> None:
        """What came: positions, and where content stands."""
        self._positions += positions
        self._spans += spans

    def certain(self, decided: int) -> list[TokenLogprob]:
        """The content's among the positions before `decided`, up to where it is known what is content."""
        found: list[TokenLogprob] = []
        while self._positions:
            text = text_of(self._positions[0])
            begin, end = self._at, self._at + len(text)
            if end > decided or (begin == end == decided):
                break
            position = self._positions.popleft()
            self._at = end
            while self._spans and self._spans[0][1] <= begin:
                self._spans.popleft()
            kept = "".join(text[max(a - begin, 0) : max(b - begin, 0)] for a, b in self._spans if a < end)
            if kept == text and (text or any(a <= begin < b for a, b in self._spans)):
                found.append(position)
            elif kept:
                found.append(replace(position, token=kept.encode(), text=kept))
        return found
