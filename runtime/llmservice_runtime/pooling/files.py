"""What a folder of Hugging Face's says of a model that embeds or reranks, for the engines that read such folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.formats.sentences import Sentences, sentences
from llmservice_runtime.protocol.pooling import PoolInput, Traits


def recipe_of(folder: Path, task: str) -> Sentences:
    """How its vectors are made. UserError UnsupportedFormat where the files don't say, or say what nobody does."""
    recipe = Sentences(pooling="Rank") if task == "Rerank" else sentences(lambda path: _content(folder / path))
    if recipe.unable or not recipe.pooling:
        raise UserError(
            f"{folder} can't be used: {recipe.unable or 'its files do not say how vectors are pooled.'}",
            "Use a model whose modules.json and 1_Pooling/config.json say so.",
            FailureClass.UNSUPPORTED_FORMAT,
        )
    return recipe


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def traits_of(config: Any, recipe: Sentences) -> Traits:
    """Of a loaded configuration. `matryoshka_dimensions` and `is_matryoshka` are what vLLM reads too."""
    if recipe.pooling == "Rank":
        return Traits(1)
    shorter = getattr(config, "matryoshka_dimensions", None) or ()
    anywhere = bool(getattr(config, "is_matryoshka", False)) and not shorter
    return Traits(
        int(config.hidden_size), tuple(map(int, shorter)), anywhere, recipe.normalized, recipe.prompts,
        recipe.default_prompt,
    )  # fmt: skip


class Pairs:
    """How a tokenizer puts two texts together."""

    def __init__(self, alone: Callable[[str], Sequence[int]], together: Callable[[str, str], Sequence[int]]) -> None:
        """`alone`: tokens of a text without special ones; `together`: of two with those around them."""
        self._alone = alone
        self._together = together

    def joined(self, query: Sequence[int], document: Sequence[int]) -> PoolInput:
        """Two texts, which are tokens without special ones."""
        before, between, after = self._frame
        first = [*before, *query, *between]
        return PoolInput([*first, *document, *after], second=len(first))

    @cached_property
    def _frame(self) -> tuple[list[int], list[int], list[int]]:
        """The special tokens around two texts."""
        one, two, whole = list(self._alone("a")), list(self._alone("b")), list(self._together("a", "b"))
        start = _place(whole, one, 0)
        second = _place(whole, two, start + len(one))
        return whole[:start], whole[start + len(one) : second], whole[second + len(two) :]


def _place(whole: list[int], part: list[int], start: int) -> int:
    for place in range(start, len(whole) - len(part) + 1):
        if whole[place : place + len(part)] == part:
            return place
    raise UserError(
        "The tokenizer joins two texts so that neither is left as it was.",
        "Use another reranking model.",
        FailureClass.UNSUPPORTED_FORMAT,
    )
