"""docs/clients.md: every row is a test that is there, with the version that is locked."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "clients.md").read_text()
TABLE = PAGE.partition("<!-- clients -->")[2].partition("<!-- /clients -->")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.splitlines()[3:]]


def test_every_row_is_a_test() -> None:
    assert len(ROWS) > 15
    for *_, test in ROWS:
        file, _, name = test.strip("`").partition("::")
        tree = ast.parse((ROOT / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


def test_versions_are_those_of_the_locks() -> None:
    locks = "".join((ROOT / "config" / "locks" / f"{name}.lock").read_text() for name in ("dev", "bare", "clients"))
    for clients, versions, *_ in ROWS:
        for client, version in zip(clients.split(", "), versions.split(", "), strict=False):
            if re.match(r"\d", version) and not clients.startswith("Dify"):
                assert f"\n{client.split()[0]}=={version}" in f"\n{locks}", (client, version)
