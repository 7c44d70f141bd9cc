"""Images, tests and the command line run on the same versions."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from cluster.layout import REPOSITORY

LOCKS = REPOSITORY / "config" / "locks"
NAMES = ("cli", "dev", "operator", "runtime")


def versions(name: str) -> dict[str, set[str]]:
    """Package to versions (several where a marker chooses) of a lock."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", (LOCKS / f"{name}.lock").read_text(), re.M):
        found.setdefault(package, set()).add(version)
    return found


@pytest.mark.parametrize(("one", "other"), list(combinations(NAMES, 2)))
def test_two_locks_agree_on_what_they_share(one: str, other: str) -> None:
    first, second = versions(one), versions(other)
    shared = first.keys() & second.keys()
    assert shared
    assert {name: first[name] for name in shared} == {name: second[name] for name in shared}


@pytest.mark.parametrize("name", [file.stem for file in sorted(LOCKS.glob("*.lock"))])
def test_a_lock_has_hashes_and_no_address(name: str) -> None:
    text = (LOCKS / f"{name}.lock").read_text()
    assert text.count("--hash=sha256:") >= len(versions(name)) > 0
    assert "://" not in text
