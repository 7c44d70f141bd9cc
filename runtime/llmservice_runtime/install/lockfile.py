"""Reading a pip lock file with hashes: its entries, and the one we build ourselves taken apart from the rest. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")


@dataclass(frozen=True, slots=True)
class LockedBuild:
    """`version` of the package that is built here, its own lock `entry`, and the `rest` of the lock."""

    version: str
    entry: str
    rest: str


def split_lock(text: str, package: str) -> LockedBuild:
    """Take `package` out of a lock; ValueError when it is not in it exactly once."""
    found: list[tuple[str, str]] = []
    rest: list[str] = []
    for entry in entries(text):
        match = _NAME.match(entry)
        if match and _canonical(match[1]) == _canonical(package):
            found.append((match[2], entry))
        else:
            rest.append(entry)
    if len(found) != 1:
        raise ValueError(f"{package} stands {len(found)} times in the lock")
    version, entry = found[0]
    return LockedBuild(version, entry, "".join(rest))


def entries(text: str) -> list[str]:
    """Requirement entries with their continuation lines; comments and blank lines are left out."""
    result: list[str] = []
    for line in text.splitlines(keepends=True):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and result:
            result[-1] += line
        else:
            result.append(line)
    return result


def names(text: str) -> list[str]:
    """The package of every entry, spelled as indexes do."""
    return [_canonical(match[1]) for entry in entries(text) if (match := _NAME.match(entry))]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
