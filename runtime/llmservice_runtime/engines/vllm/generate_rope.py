"""Which types of RoPE vLLM knows, and what each can't do without: read from the source of what makes them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any

MADE_OF = "rope_parameters"


def rope_types() -> dict[str, list[list[str]]]:
    """Type -> groups of keys, of each of which one must be there. Names of old checkpoints have what they stand for."""
    from vllm.model_executor.layers.rotary_embedding import get_rope
    from vllm.transformers_utils.config import patch_legacy_rope_type

    made = dict(_branches(ast.parse(inspect.getsource(get_rope))))
    if not made.keys() >= {"default", "yarn", "longrope"}:
        raise RuntimeError(f"vLLM's get_rope is not read any more: it has {sorted(made)}")
    old = ast.parse(inspect.getsource(patch_legacy_rope_type))
    for name, stands_for in _renamed(old):
        made.setdefault(name, made[stands_for])
    return made


def _branches(tree: ast.AST) -> Iterator[tuple[str, list[list[str]]]]:
    """`if scaling_type == "yarn"`, `elif scaling_type in [...]`: the names, and the keys that are always read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Compare):
            subject, (value,) = ast.unparse(node.test.left), node.test.comparators
            if subject == "scaling_type":
                named = ast.literal_eval(value)
                for name in [named] if isinstance(named, str) else named:
                    yield name, sorted(_needed(node.body))


def _needed(body: list[ast.stmt]) -> Iterator[list[str]]:
    for statement in body:
        if isinstance(statement, ast.If):
            tests = [node.test for node in _chain(statement)]
            if isinstance(_chain(statement)[-1].orelse[-1:] and _chain(statement)[-1].orelse[-1], ast.Raise):
                yield sorted({key for test in tests for key in _asked_for(test)})
            continue
        yield from ([key] for key in _read(statement))


def _chain(node: ast.If) -> list[ast.If]:
    following = node.orelse[0] if len(node.orelse) == 1 else None
    return [node, *_chain(following)] if isinstance(following, ast.If) else [node]


def _asked_for(test: ast.AST) -> Iterator[str]:
    """`"alpha" in rope_parameters`."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In) and _is_made_of(node.comparators[0]):
            yield str(ast.literal_eval(node.left))


def _read(statement: ast.stmt) -> Iterator[str]:
    """`rope_parameters["factor"]`."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Subscript) and _is_made_of(node.value) and isinstance(node.slice, ast.Constant):
            yield str(node.slice.value)


def _is_made_of(node: Any) -> bool:
    return isinstance(node, ast.Name) and node.id == MADE_OF


def _renamed(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """`if rope_parameters["rope_type"] == "su": rope_parameters["rope_type"] = "longrope"`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare):
            continue
        if ast.unparse(node.test.left) != "rope_parameters['rope_type']":
            continue
        for one in node.body:
            if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "rope_parameters['rope_type']":
                yield ast.literal_eval(node.test.comparators[0]), ast.literal_eval(one.value)
