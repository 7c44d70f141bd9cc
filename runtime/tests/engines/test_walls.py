"""An engine is one folder and one line: who else names one is counted, and what a folder must hold is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmservice_runtime
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.registry import definition, process_module

RUNTIME = Path(llmservice_runtime.__file__).parent
OPERATOR = RUNTIME.parents[1] / "operator"
MOST = 6
NAMES = re.compile(
    "|".join(f"(?<![a-z]){word}" for engine in EngineType for word in {engine.name.lower(), engine.folder})
    + r"|llama\.cpp|llama-cpp",
    re.IGNORECASE,
)
METRICS = re.compile(r"vllm:\w+|sentence_transformers")
"""Metric names are those of one engine for all: dashboards know them. And a format's files are called by its library.
"""


def words(tree: ast.Module) -> Iterator[str]:
    """Identifiers, imports and texts of a module; comments and docstrings may say where something was read."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in prose:
                yield METRICS.sub("", text)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name
            case ast.ImportFrom(module=str(module)):
                yield module


def test_at_most_six_files_outside_engines_name_an_engine() -> None:
    files = [
        *RUNTIME.rglob("*.py"),
        *(file for folder in OPERATOR.glob("llmservice_*") for file in folder.rglob("*.py")),
    ]
    outside = [file for file in files if RUNTIME / "engines" not in file.parents]
    assert len(outside) > 200
    naming = {str(file) for file in outside if any(map(NAMES.search, words(ast.parse(file.read_text()))))}
    assert len(naming) <= MOST, sorted(naming)
    assert str(RUNTIME / "contract" / "engines.py") in naming, "the registry is one of them"


@pytest.mark.parametrize("engine", EngineType)
def test_what_the_registry_lists_has_a_folder_that_says_what_it_is(engine: EngineType) -> None:
    found = definition(engine)
    assert found.label and found.rules and found.devices
    assert found.memory(()).max_sequences > 0
    assert process_module(engine) == f"llmservice_runtime.engines.{engine.folder}.serve"


def test_no_two_engines_have_one_label() -> None:
    assert len({definition(engine).label for engine in EngineType}) == len(EngineType)
