"""Qwen3-Reranker as it was first published: every file but its card is that of a model that writes text. Pure.

It is told as llama.cpp's converter and vLLM tell it, and asked in the words of its card.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.sentences import Answers, Read, Sentences

ARCHITECTURE = "Qwen3ForCausalLM"
NAME = "qwen3-reranker"
FIELD = "is_original_qwen3_reranker"
"""Of config.json, as vLLM's users give it."""
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: "
)
BETWEEN = "\n<Document>: "
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
NOTE = (
    "It is a Qwen3-Reranker by its name or card, and is asked for yes or no in the words of that. To have it write"
    " text, serve a copy that is not called so."
)


def may_be_one(architectures: Iterable[str]) -> bool:
    """Whether it is worth a look at the card."""
    return ARCHITECTURE in architectures


def is_one(config: Mapping[str, Any], uris: Iterable[str], card: str) -> bool:
    """By config.json, by what it, or what it was made from, is called, or by a headline of its README.md."""
    if config.get(FIELD) is True:
        return True
    return f"# {NAME}" in card.lower() or any(NAME in own_name(uri).lower() for uri in uris)


def own_name(uri: str) -> str:
    """The last part of an address or a path, which no folder around it is; in Hugging Face's cache the repository's."""
    *around, name = uri.rpartition("://")[2].rstrip("/").split("/")
    return around[-2] if len(around) > 1 and around[-1] == "snapshots" else name


def asked_in_its_words(read: Read) -> Sentences | None:
    """How one is asked that was planned as a reranker; None = it is another model."""
    raw = read("config.json")
    config = json.loads(raw) if raw is not None else {}
    if not may_be_one(config.get("architectures") or ()):
        return None
    tokens = json.loads(read("tokenizer.json") or b"{}").get("model", {}).get("vocab", {})
    if not isinstance(tokens, dict) or not {"yes", "no"} <= tokens.keys():
        raise damaged("tokenizer.json has no tokens `yes` and `no`, which a Qwen3-Reranker answers with.")
    answers = Answers(tokens["yes"], tokens["no"], opened=True)
    return Sentences("Rank", answers=answers, question=(BEFORE, BETWEEN, AFTER))
