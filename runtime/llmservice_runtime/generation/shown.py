"""The pictures of one prompt, as a step meets them: where they are, what may go together, at which positions. Pure."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llmservice_runtime.protocol.pictures import Span


class Shown:
    """`spans` in their order. False when there are none, as in most prompts."""

    def __init__(self, spans: Sequence[Span] = ()) -> None:
        self._spans = tuple(spans)
        self._end = spans[-1].end if spans else 0
        self._saved = sum(map(saves, spans))

    def __bool__(self) -> bool:
        return bool(self._spans)

    def at(self, token: int) -> Span | None:
        """The picture that a token is of."""
        if token >= self._end:
            return None
        return next((span for span in self._spans if span.start <= token < span.end), None)

    def position(self, token: int) -> int:
        """Where the model has it: of a picture, where that begins."""
        if token >= self._end:
            return token - self._saved
        begin = next((span.start for span in self._spans if span.start <= token < span.end), token)
        return begin - sum(saves(span) for span in self._spans if span.end <= begin)

    def reach(self, token: int) -> int:
        """How many tokens from there on may be computed together: text up to a picture, or a picture to its end."""
        if token >= self._end:
            return sys.maxsize
        if span := self.at(token):
            return span.end - token
        return next(span.start for span in self._spans if span.start > token) - token

    def whole(self, token: int, tokens: int) -> int:
        """Of so many from there on: all of a picture that is computed in one step."""
        span = self.at(token)
        return tokens if span is None or not span.whole else span.end - token

    def fit(self, length: int) -> int:
        """Of the first `length` tokens so many as end outside of a picture, which is all there or not."""
        if length >= self._end:
            return length
        return next((span.start for span in self._spans if span.start < length < span.end), length)

    def saves_at(self, end: int) -> int:
        """Positions that a picture which ends there takes less than tokens."""
        if end > self._end:
            return 0
        return next((saves(span) for span in self._spans if span.end == end), 0)


def saves(span: Span) -> int:
    """Positions that it takes less than tokens."""
    return len(span.vectors) - span.advance
