"""Errors for people (two lines on standard error) and for programs (`-o json`: one object on standard output)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from llmservice_runtime.contract.errors import UserError

_FIELD = re.compile(r"(?P<field>spec(\.\w+)+): ")
"""How a sentence that blames a field begins."""


MOST_NAMES = 3


def tell(error: UserError, of: Sequence[str] = ()) -> None:
    """Two lines on standard error. `of`: the services it is about, of which a few are named."""
    names = ", ".join(of[:MOST_NAMES]) + (f" and {len(of) - MOST_NAMES} more" if len(of) > MOST_NAMES else "")
    print(f"error: {names + ': ' if of else ''}{error.reason}", file=sys.stderr)
    if error.remedy:
        print(f"  fix: {error.remedy}", file=sys.stderr)


def tell_program(error: UserError) -> None:
    """The same as JSON on standard output, and nothing else there."""
    print(json.dumps(as_object(error), indent=2))


def as_object(error: UserError, field: str = "") -> dict[str, Any]:
    """`failure` (a class of the failure record), `reason`, `field` (`field` where the error names none) and `waysOut`.

    Of several mistakes in manifests `mistakes` has each: file, line, field, reason, waysOut.
    """
    problems: Sequence[Any] = getattr(error, "problems", ())  # of a ManifestError, whose import would slow down --help
    blamed = _FIELD.match(error.reason)
    body: dict[str, Any] = {
        "failure": str(error.failure),
        "reason": error.reason,
        "field": problems[0].field if len(problems) == 1 else blamed["field"] if blamed else field,
        "waysOut": [error.remedy] if error.remedy else [],
    }
    if problems:
        body["mistakes"] = [
            {"file": str(m.path), "line": m.line, "field": m.field, "reason": m.reason, "waysOut": [m.remedy]}
            for m in problems
        ]
    return body


def asks_for_json(argv: Sequence[str]) -> bool:
    """Whether `-o json` stands in a command line, in any spelling that argparse takes; it may be wrong otherwise."""
    for number, word in enumerate(argv):
        if word == "--":
            return False
        name, equals, value = word.partition("=")
        long = len(name) > 3 and "--output".startswith(name)
        if word == "-o" or (long and not equals):
            value = argv[number + 1] if number + 1 < len(argv) else ""
        elif word.startswith("-o") and not word.startswith("--"):
            value = word[2:].removeprefix("=")
        elif not long:
            continue
        if value == "json":
            return True
    return False
