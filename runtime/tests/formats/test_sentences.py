"""What sentence-transformers' files say of vectors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.sentences import Sentences, labels, sentences

PARTS = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]


def modules(*parts: tuple[str, str]) -> list[dict[str, str]]:
    return [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in parts]


def read(**files: Any) -> Sentences:
    """`modules`, `pooling`, `prompts`: JSON of those files, or their bytes."""
    names = {
        "modules.json": "modules", "1_Pooling/config.json": "pooling", "config_sentence_transformers.json": "prompts",
    }  # fmt: skip
    found = {path: files[name] for path, name in names.items() if name in files}
    raw = {path: body if isinstance(body, bytes) else json.dumps(body).encode() for path, body in found.items()}
    return sentences(raw.get)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "Mean"),
        ({"pooling_mode_cls_token": True}, "CLS"),
        ({"pooling_mode_lasttoken": True}, "Last"),
        ({"pooling_mode": "lasttoken"}, "Last"),
        ({"pooling_mode": "mean"}, "Mean"),
        ({}, ""),
    ],
)
def test_poolings(pooling: dict[str, Any], expected: str) -> None:
    said = read(modules=modules(*PARTS), pooling=pooling)
    assert (said.pooling, said.normalized, said.unable) == (expected, True, "")
    assert not read(modules=modules(*PARTS[:2]), pooling=pooling).normalized


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"modules": modules(*PARTS, ("3_Dense", "Dense"))}, "Dense"),
        ({"pooling": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}}, "several"),
        ({"pooling": {"pooling_mode_max_tokens": True}}, "Max"),
        ({"pooling": {"pooling_mode": "attention"}}, "attention"),
        ({"pooling": {"pooling_mode_mean_tokens": True, "include_prompt": False}}, "prompt"),
    ],
)
def test_what_is_not_computed_is_named(files: dict[str, Any], words: str) -> None:
    assert words in read(**{"modules": modules(*PARTS), "pooling": {"pooling_mode_mean_tokens": True}} | files).unable


def test_prompts() -> None:
    said = read(prompts={"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"})
    assert (said.prompts, said.default_prompt) == ({"query": "query: ", "document": ""}, "query")
    assert read(prompts={"prompts": None, "default_prompt_name": None}) == read(prompts={}) == Sentences()


@pytest.mark.parametrize(
    "files",
    [
        {"modules": b"[{"},
        {"modules": {"0": "Transformer"}},
        {"pooling": []},
        {"prompts": {"prompts": {"query": 1}}},
        {"prompts": {"prompts": {str(number): "" for number in range(100)}}},
        {"prompts": {"default_prompt_name": "query"}},
    ],
)
def test_damaged_files_are_refused(files: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel):
        read(**files)


def test_labels() -> None:
    assert (labels({}), labels({"num_labels": 1}), labels({"id2label": {"0": "LABEL_0"}})) == (2, 1, 1)
