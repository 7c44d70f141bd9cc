"""What no tool says of a checkout: test files that hide one another, tables that are cut in two."""

from __future__ import annotations

import re
import tomllib
from collections import Counter

from cluster.layout import REPOSITORY


def test_every_test_file_has_a_name_of_its_own() -> None:
    """pytest imports them by their names alone (prepend): the second of one name is an error in a whole run."""
    options = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    names = Counter(path.name for root in options["testpaths"] for path in (REPOSITORY / root).rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []


def test_every_table_in_the_documents_is_whole() -> None:
    for page in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]:
        for table in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.M):
            lines = table.splitlines()
            assert re.fullmatch(r"\|([ :-]+\|)+", lines[1]), f"{page}: a table without a head begins at {lines[0]}"
