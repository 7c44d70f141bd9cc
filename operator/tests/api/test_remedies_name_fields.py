"""No sentence tells people to set a field that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmservice_api.crd import custom_resource_definition

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = [*sorted((ROOT / "operator").glob("llmservice_*")), ROOT / "runtime/llmservice_runtime"]
_DOTTED = re.compile(r"(?<![\w.\-/])(spec\.)?([a-z][A-Za-z]*(?:\.[a-z][A-Za-z-]*)+|[a-z][A-Za-z]*)")
NOT_OURS = re.compile(r"spec\.(template|containers|initContainers|volumes|nodeName|serviceAccount)\b")
"""Of pods and Deployments."""


def sentences() -> Iterator[tuple[str, str]]:
    """(file and line, text) of every string in the programs that has a space and is no docstring."""
    for program in PROGRAMS:
        for file in sorted(program.rglob("*.py")):
            tree = ast.parse(file.read_text())
            docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if (
                    id(node) not in docs
                    and isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and " " in node.value
                ):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node.value


def known(schema: dict[str, Any], path: list[str]) -> bool:
    """Whether the CRD's schema has the field."""
    for name in path:
        while schema.get("type") == "array":
            schema = schema["items"]
        if "x-kubernetes-preserve-unknown-fields" in schema or "additionalProperties" in schema:
            return True
        if name not in schema.get("properties", {}):
            return False
        schema = schema["properties"][name]
    return True


def test_every_field_that_a_sentence_names_exists() -> None:
    spec = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    wrong, seen = [], set()
    for where, text in sentences():
        for found in _DOTTED.finditer(text):
            path = found[2].split(".")
            ours = found[1] or ("." in found[2] and path[0] in spec["properties"] and path[0] not in ("model",))
            if not ours or NOT_OURS.match(found[0]):
                continue
            seen.add(found[2])
            if not known(spec, path):
                wrong.append(f"{where}: {found[0]}")
    assert not wrong
    assert {"engine.loadSeconds", "prepare.resources", "accelerator.count", "resources.limits.memory"} <= seen
