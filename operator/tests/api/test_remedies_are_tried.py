"""docs/remedies.md against the programs: each reason and each remedy of a table has a line, and a test that exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from llmservice_api.conditions import Reason
from llmservice_operator.diagnosis import refusal
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.supervisor.classify import REMEDIES

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = (ROOT / "operator/llmservice_operator", ROOT / "operator/llmservice_api/status.py")
NOT_TRIED = ("not tried: needs a GPU", "not tried: needs a cloud")


class Line(NamedTuple):
    reason: str
    says: str
    tried: str


def lines() -> list[Line]:
    rows = (ROOT / "docs/remedies.md").read_text().splitlines()
    cells = ([cell.strip().strip("`") for cell in row.split("|")[1:-1]] for row in rows if row.startswith("| `"))
    return [Line(*cell) for cell in cells]


def reasons_of_problems() -> set[str]:
    """Every reason that the operator makes a Problem of."""
    found = set()
    for program in PROGRAMS:
        for file in program.rglob("*.py") if program.is_dir() else [program]:
            if file.exists():
                for name in re.findall(r"\bProblem\(\s*Reason\.([A-Z_]+)", file.read_text()):
                    found.add(Reason[name].value)
    return found


@cache
def functions_of(file: Path) -> frozenset[str]:
    found = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, found))


def test_every_class_and_every_reason_has_a_line() -> None:
    known = {line.reason for line in lines()}
    assert {failure.value for failure in FailureClass} | reasons_of_problems() <= known
    assert known <= {failure.value for failure in FailureClass} | {reason.value for reason in Reason}


def test_every_remedy_of_a_table_has_a_line() -> None:
    said = [line.says for line in lines()]
    for failure, remedy in REMEDIES.items():
        assert any(line.says in remedy for line in lines() if line.reason == failure.value), remedy
    for _, way in refusal._WAYS:
        assert any(words in way for words in said), way


def test_every_line_names_a_test_that_is_there_or_what_is_missing() -> None:
    for line in lines():
        if line.tried in NOT_TRIED:
            continue
        name, _, test = line.tried.partition("::")
        assert (ROOT / name).is_file(), line
        assert not test or test in functions_of(ROOT / name), line
