"""What an engine that makes vectors or scores of texts offers to the HTTP layer."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from llmservice_runtime.protocol.engine import Served


@dataclass(frozen=True, slots=True)
class PoolInput:
    """One text, or a pair, as tokens, special ones included."""

    tokens: Sequence[int]
    second: int = 0
    """Where the second text of a pair begins; 0 = there is one text."""
    prompt: int = 0
    """How many tokens in front are the prompt's, where the model leaves that out of what it pools."""

    def __post_init__(self) -> None:
        """Kept in 4 bytes each: as Python's numbers the millions of a large request would take 40."""
        object.__setattr__(self, "tokens", array("i", self.tokens))


@dataclass(frozen=True, slots=True)
class Question:
    """The texts around a query and a document, by which a model that writes is asked whether they fit."""

    before: str
    between: str
    after: str


@dataclass(frozen=True, slots=True)
class Traits:
    """What the model's own files say of its vectors."""

    dimensions: int
    """Numbers of a vector; 1 of a score."""
    shorter: tuple[int, ...] = ()
    """Numbers that a vector may be cut to, as the model was trained for."""
    any_shorter: bool = False
    """Whether it was trained to be cut anywhere."""
    normalized: bool = True
    """Whether vectors have the length 1."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """What to put before a text, by what it is for (`query`, `document`)."""
    default_prompt: str = ""
    """The prompt of a request that names none; empty = no prompt."""
    question: Question | None = None
    """How a pair is put; None = as `Pooler.pair` does."""

    def allows(self, dimensions: int) -> bool:
        """Whether a vector may have so many numbers."""
        return dimensions == self.dimensions or (
            0 < dimensions < self.dimensions and (self.any_shorter or dimensions in self.shorter)
        )


Vector: TypeAlias = "array[float]"
"""Of 32-bit floats (`array("f")`)."""


class NoNumbersError(Exception):
    """What was computed of a text is no number, as where it is too large for the type that the model computes in."""

    def __init__(self, text: int) -> None:
        super().__init__(
            f"The model computed no numbers of text {text} (counted from 0): they are too large for the type that it"
            " computes in. Serve it in 32 bits, or other files of it."
        )


class Pooler(Served, Protocol):
    """A loaded model that makes a vector of a text (task Embedding), or a score of a pair (task Rerank)."""

    @property
    def traits(self) -> Traits: ...

    def pair(self, query: Sequence[int], document: Sequence[int]) -> PoolInput:
        """The input that compares two texts, which are tokens without special ones."""
        ...

    async def pool(self, inputs: Sequence[PoolInput], *, batch: bool = False) -> Sequence[Vector]:
        """A vector of each, as the model's files say; of pairs one number each, 0 to 1. `batch`: behind all others.

        Raises QueueFullError and NoNumbersError. Cancelling the caller ends what was not begun.
        """
        ...
