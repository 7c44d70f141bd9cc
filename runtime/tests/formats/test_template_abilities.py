"""What the chat template's text says of a model is a fact of it, wherever the template stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from model_samples import MemoryFiles, hf  # type: ignore[import-not-found]

from llmservice_runtime.formats.inspect import inspect_model

THINKS = "{% if tools %}{{ tools }}{% endif %}{{ message.reasoning_content }}"


@pytest.mark.parametrize(
    ("side", "known"),
    [
        ({}, None),
        ({"tokenizer_config.json": {"chat_template": "{{ messages }}"}}, ()),
        ({"tokenizer_config.json": {"chat_template": THINKS}}, ("Thinking", "Tools")),
        ({"tokenizer_config.json": {"chat_template": [{"name": "tool_use", "template": "{{ tools }}"}]}}, ("Tools",)),
        ({"chat_template.json": {"chat_template": THINKS}, "tokenizer_config.json": {}}, ("Thinking", "Tools")),
    ],
)
def test_of_a_folder(side: dict[str, Any], known: tuple[str, ...] | None) -> None:
    assert inspect_model(hf(side=side)).abilities == known


def test_a_template_in_a_file_of_its_own_comes_first_and_a_broken_one_refuses_no_model() -> None:
    files = hf(side={"tokenizer_config.json": {"chat_template": THINKS}})
    beside = {**files._files, "chat_template.jinja": (b"{{ messages }}", 14)}
    assert inspect_model(MemoryFiles(beside)).abilities == ()
    assert inspect_model(MemoryFiles({**files._files, "chat_template.json": (b"{", 1)})).abilities is None


def test_of_a_gguf(make_gguf: Callable[..., bytes]) -> None:
    known = make_gguf(values={"general.name": "x"})
    assert inspect_model(MemoryFiles({"m.gguf": known})).abilities == ()
    assert inspect_model(MemoryFiles({"m.gguf": make_gguf(template=False)})).abilities is None
