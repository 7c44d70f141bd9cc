"""What sentence-transformers' files say of vectors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.sentences import Answers, Dense, Sentences, labels, sentences

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
        ({"modules": modules(*PARTS, ("3_WordWeights", "WordWeights"))}, "WordWeights"),
        ({"pooling": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}}, "several"),
        ({"pooling": {"pooling_mode_max_tokens": True}}, "Max"),
        ({"pooling": {"pooling_mode": "attention"}}, "attention"),
        ({"pooling": {"pooling_mode_mean_tokens": True, "include_prompt": False}}, "prompt"),
    ],
)
def test_what_is_not_computed_is_named(files: dict[str, Any], words: str) -> None:
    assert words in read(**{"modules": modules(*PARTS), "pooling": {"pooling_mode_mean_tokens": True}} | files).unable


DENSE = {"in_features": 8, "out_features": 4, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}


def dense(**changes: Any) -> Sentences:
    """A model with a layer between pooling and normalization."""
    files = {
        "modules.json": modules(*PARTS[:2], ("2_Dense", "Dense"), ("3_Normalize", "Normalize")),
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "2_Dense/config.json": DENSE | changes,
    }
    return sentences({path: json.dumps(body).encode() for path, body in files.items()}.get)


def test_layers_behind_the_pooling() -> None:
    assert dense() == Sentences("Mean", True, dense=(Dense("2_Dense", 8, 4, False, "Identity"),))
    unable: list[dict[str, Any]] = [
        {"activation_function": "os.system"},
        {"activation_function": "torch.nn.modules.activation.Softmax"},
        {"use_residual": True},
        {"module_input_name": "token_embeddings"},
    ]
    for changes in unable:
        assert "a layer that is not computed here" in dense(**changes).unable
    for name, size in (("in_features", None), ("out_features", 0), ("out_features", True)):
        with pytest.raises(UnsupportedModel):
            dense(**{name: size})


def asked(score: Any, **processing: Any) -> Sentences:
    """A decoder that says yes or no."""
    files = {
        "modules.json": modules(("", "Transformer"), ("1_LogitScore", "LogitScore")),
        "1_LogitScore/config.json": score,
        "sentence_bert_config.json": {"processing_kwargs": processing},
    }
    return sentences({path: json.dumps(body).encode() for path, body in files.items()}.get)


def test_decoders_that_are_asked() -> None:
    score = {"true_token_id": 9, "false_token_id": 2}
    assert asked(score) == Sentences("Rank", answers=Answers(9, 2))
    assert asked({"true_token_id": 9}).answers == Answers(9, None)
    assert asked(score, chat_template={"add_generation_prompt": True}).answers == Answers(9, 2, opened=True)
    for wrong in ({}, {"true_token_id": "yes"}, {"true_token_id": -1}, {"true_token_id": 9, "false_token_id": True}):
        with pytest.raises(UnsupportedModel):
            asked(wrong)


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
