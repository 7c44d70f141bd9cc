"""What an engine that sees offers to the HTTP layer: what a picture takes of a prompt, and what is computed from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # who only asks whether an engine sees needs no arrays
    import numpy as np
    import numpy.typing as npt


class UnseenError(ValueError):
    """A picture that this model can't be shown; the message says why, to stand behind a subject (HTTP 400)."""


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Tokens of a prompt that are a picture (or a part of one): vectors instead of rows of the vocabulary.

    `start` is where in the prompt they begin.
    """

    start: int
    vectors: npt.NDArray[np.float32]
    """(tokens, width)."""
    places: npt.NDArray[np.int32] | None
    """(4, tokens): positions of each in the picture, where the model has several dimensions of them."""
    advance: int
    """By how many positions the text goes on after it; as many as there are tokens where positions are plain."""
    whole: bool
    """Whether all of it has to be computed in one step: its tokens see each other both ways."""

    @property
    def end(self) -> int:
        """Behind its last token."""
        return self.start + len(self.vectors)


@dataclass(frozen=True, slots=True, eq=False)
class Glimpse:
    """A picture as the prompt has it, before it is computed. `tokens` are those of the text that the model wants around
    it, and for the picture numbers below 0, which tell it from every other one."""

    digest: bytes
    tokens: Sequence[int]
    parts: Sequence[object] = field(default=())
    """What the engine keeps to compute it."""


class Eyes(Protocol):
    """Shows pictures to a loaded model. Safe to call from an event loop; the work is done elsewhere."""

    @property
    def shown_tokens(self) -> int:
        """So many tokens of pictures there is room for in all requests that run or wait: what `see` gives stays with
        them."""
        ...

    def known(self, digest: bytes) -> Glimpse | None:
        """What `glimpse` found for a picture that was shown lately."""
        ...

    async def glimpse(self, digest: bytes, width: int, height: int, rgb: bytes) -> Glimpse:
        """What a picture takes. `digest` is of its file; pixels row by row. UnseenError when it can't be shown."""
        ...

    async def see(self, glimpse: Glimpse) -> Sequence[Span]:
        """Compute it; the spans begin where they do in the glimpse's tokens. UnseenError as of `glimpse`."""
        ...
