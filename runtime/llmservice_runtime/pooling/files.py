"""What a folder of Hugging Face's says of a model that embeds or reranks, for the engines that read such folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.formats.qwen_reranker import asked_in_its_words
from llmservice_runtime.formats.sentences import Sentences, sentences
from llmservice_runtime.openai.templates import ChatTemplate, TemplateError
from llmservice_runtime.protocol.engine import Tokenizer
from llmservice_runtime.protocol.pooling import PoolInput, Question, Traits


def recipe_of(folder: Path, task: str) -> Sentences:
    """How its vectors are made. UserError UnsupportedFormat where the files don't say, or say what nobody does."""

    def read(path: str) -> bytes | None:
        return _content(folder / path)

    recipe = sentences(read)
    if task == "Rerank" and recipe.answers is None:
        recipe = asked_in_its_words(read) or Sentences(pooling="Rank")
    if recipe.unable or not recipe.pooling:
        raise UserError(
            f"{folder} can't be used: {recipe.unable or 'its files do not say how vectors are pooled.'}",
            "Use a model whose modules.json and 1_Pooling/config.json say so.",
            FailureClass.UNSUPPORTED_FORMAT,
        )
    return recipe


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def traits_of(config: Any, recipe: Sentences, tokenizer: Tokenizer) -> Traits:
    """Of a loaded configuration. `matryoshka_dimensions` and `is_matryoshka` are what vLLM reads too. UserError for a
    reranker whose chat template can't ask."""
    if recipe.pooling == "Rank":
        return Traits(1, question=_question(recipe, tokenizer) if recipe.answers else None)
    shorter = getattr(config, "matryoshka_dimensions", None) or ()
    anywhere = bool(getattr(config, "is_matryoshka", False)) and not shorter
    width = recipe.dense[-1].outputs if recipe.dense else int(config.hidden_size)
    prompts = recipe.prompts, recipe.default_prompt
    return Traits(width, tuple(map(int, shorter)), anywhere, recipe.normalized, *prompts)


MARKS = ("LLMSERVICE-QUERY", "LLMSERVICE-DOCUMENT")


def _question(recipe: Sentences, tokenizer: Tokenizer) -> Question:
    """The chat template with a query and a document, which it takes as texts or as lists of parts."""
    if recipe.question is not None:
        return Question(*recipe.question)
    template = ChatTemplate(tokenizer.chat_template or "", tokenizer.bos_token, tokenizer.eos_token)
    prompt = recipe.prompts.get(recipe.default_prompt, "")
    system: list[dict[str, Any]] = [{"role": "system", "content": prompt}] if prompt else []
    for parts in (False, True):
        query, document = ([{"type": "text", "text": mark}] if parts else mark for mark in MARKS)
        messages = [*system, {"role": "query", "content": query}, {"role": "document", "content": document}]
        with suppress(TemplateError):
            text = template.render(messages, add_generation_prompt=bool(recipe.answers and recipe.answers.opened))
            before, _, rest = text.partition(MARKS[0])
            between, found, after = rest.partition(MARKS[1])
            if found and not any(mark in after for mark in MARKS):
                return Question(before, between, after)
    raise UserError(
        "The chat template does not show a query and then a document, each once.",
        "Use a reranking model whose chat template has the roles `query` and `document`.",
        FailureClass.UNSUPPORTED_FORMAT,
    )


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
