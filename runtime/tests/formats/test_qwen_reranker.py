"""A Qwen3-Reranker whose files are those of a model that writes: told by its name or its card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from llmservice_runtime.formats.facts import ModelFacts, Task
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.formats.qwen_reranker import AFTER, BEFORE, BETWEEN, own_name
from llmservice_runtime.formats.sentences import Answers
from llmservice_runtime.pooling.files import recipe_of
from llmservice_runtime.sources.local import LocalFiles
from llmservice_runtime.sources.uri import parse_uri

DEMO = Path(__file__).parents[2] / "demo" / "model"


def folder(place: Path, name: str, card: str = "", **config: Any) -> Path:
    """A Qwen 3 of the demo model's sizes, under a name, with a card."""
    made = place / name
    shutil.copytree(DEMO, made, ignore=shutil.ignore_patterns("*.gguf"))
    said = json.loads((made / "config.json").read_text())
    said |= {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **config}
    (made / "config.json").write_text(json.dumps(said))
    if card:
        (made / "README.md").write_text(card)
    return made


def facts(made: Path) -> ModelFacts:
    return inspect_model(LocalFiles(parse_uri(f"file://{made}", made), None))


@pytest.mark.parametrize(
    ("name", "card", "config"),
    [
        ("Qwen3-Reranker-0.6B", "", {}),
        ("model", "---\nlicense: apache-2.0\n---\n# Qwen3-Reranker-0.6B\n", {}),
        ("model", "", {"_name_or_path": "Qwen/Qwen3-Reranker-4B"}),
        ("model", "", {"is_original_qwen3_reranker": True}),
        ("models--Qwen--Qwen3-Reranker-0.6B/snapshots/6e9e69830b95c52b5fd889b7690dda3329508de3", "", {}),
    ],
    ids=["folder", "card", "made from", "said", "cache"],
)
def test_it_is_told_by_name_card_or_configuration(tmp_path: Path, name: str, card: str, config: dict[str, Any]) -> None:
    found = facts(folder(tmp_path, name, card, **config))
    assert (found.task, found.pooling, found.asked, found.unpooled) == (Task.RERANK, "Rank", True, "")
    assert any("Qwen3-Reranker" in note for note in found.notes)


def test_others_write_text(tmp_path: Path) -> None:
    assert facts(folder(tmp_path, "Qwen3-0.6B", "# Qwen3-0.6B\nSee Qwen3-Reranker.")).task is Task.CHAT
    other = folder(tmp_path, "Qwen3-Reranker-like", architectures=["LlamaForCausalLM"], model_type="llama")
    assert facts(other).task is Task.CHAT


@pytest.mark.parametrize("config", [{}, {"_name_or_path": "/home/Qwen3-Reranker-tests/other"}], ids=["folder", "from"])
def test_the_folders_around_a_model_do_not_name_it(tmp_path: Path, config: dict[str, Any]) -> None:
    found = facts(folder(tmp_path / "Qwen3-Reranker-tests", "other-model", **config))
    assert found.task is Task.CHAT and not any("Reranker" in note for note in found.notes)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("hf://Qwen/Qwen3-Reranker-0.6B", "Qwen3-Reranker-0.6B"),
        ("file:///models/qwen/", "qwen"),
        ("file://model", "model"),
        ("oci://registry:5000/team/qwen:1", "qwen:1"),
        ("snapshots/one", "one"),
        ("", ""),
    ],
)
def test_own_names(uri: str, name: str) -> None:
    assert own_name(uri) == name


def test_it_is_asked_in_the_words_of_its_card(tmp_path: Path) -> None:
    made = folder(tmp_path, "Qwen3-Reranker-0.6B")
    (made / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"no": 3, "yes": 7}}}))
    recipe = recipe_of(made, "Rerank")
    assert (recipe.answers, recipe.question) == (Answers(7, 3, opened=True), (BEFORE, BETWEEN, AFTER))
    assert BEFORE.startswith("<|im_start|>system\nJudge whether") and BEFORE.endswith("<Query>: ")
    assert AFTER.endswith("<think>\n\n</think>\n\n")
    (made / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"no": 3}}}))
    with pytest.raises(Exception, match="`yes` and `no`"):
        recipe_of(made, "Rerank")
