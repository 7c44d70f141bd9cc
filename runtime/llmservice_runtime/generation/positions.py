"""Log-probabilities of an answer, each with the text that its token added; handed out once that text is certain."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from llmservice_runtime.protocol.engine import TokenLogprob


class Positions:
    """What waits. The texts of all that is handed out, joined, are the answer's text: a stop string cuts both alike."""

    __slots__ = ("_shown", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[TokenLogprob] = deque()
        self._shown = 0
        """Characters of the waiting ones that the reader has already."""

    def add(self, position: TokenLogprob, text: str) -> None:
        """A token came; `text` is what its bytes completed (empty for a part of a character)."""
        self._waiting.append(replace(position, text=text))

    def complete(self, text: str) -> None:
        """The end of the answer made `text` of bytes that were no character; it belongs to the last token."""
        if text and self._waiting:
            last = self._waiting.pop()
            self._waiting.append(replace(last, text=(last.text or "") + text))

    def shown(self, characters: int, open_ended: bool = False) -> list[TokenLogprob]:
        """So many more characters are certain: the positions that they complete.

        A token without text waits for the next one with text: what is cut off takes both. `open_ended`: the last
        token's bytes may still become more text.
        """
        self._shown += characters
        certain: list[TokenLogprob] = []
        for group, position in enumerate(self._waiting, 1):
            if open_ended and group == len(self._waiting):
                break
            if size := len(position.text or ""):
                if size > self._shown:
                    break
                self._shown -= size
                certain += [self._waiting[at] for at in range(len(certain), group)]
        for _ in certain:
            self._waiting.popleft()
        return certain

    def rest(self, cut: bool) -> list[TokenLogprob]:
        """The end of the answer. `cut` = a stop string ended it: of a token that it split, the part before counts."""
        rest, self._waiting = list(self._waiting), deque()
        if not cut:
            return rest
        kept: list[TokenLogprob] = []
        for position in rest:
            if self._shown == 0:
                break
            kept.append(position)
            if text := position.text:
                off = len(text[self._shown :].encode())
                kept[-1] = replace(
                    position, token=position.token[: len(position.token) - off], text=text[: self._shown]
                )
                break
        return kept
