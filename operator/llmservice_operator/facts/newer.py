"""Objects of a CustomResourceDefinition that is newer than this operator, as while an installation is upgraded.

The API server prunes what the schema does not know, so a field that is unknown here is one that a newer schema knows.
It is left out, and told. A value that is unknown here (an engine, a kind of cache) can't be left out: it is named.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from pydantic_core import ErrorDetails

from llmservice_operator.facts.values import Json

_UNKNOWN_FIELD = "extra_forbidden"
_UNKNOWN_VALUE = ("enum", "literal_error")
UPDATE = (
    "The CustomResourceDefinition is of another release than this operator: bring the operator to it, or write one of "
    "these."
)


def unknown_fields(errors: Iterable[ErrorDetails]) -> tuple[tuple[int | str, ...], ...]:
    """Where fields stand that this release has not."""
    return tuple(error["loc"] for error in errors if error["type"] == _UNKNOWN_FIELD)


def without(obj: Json, places: Iterable[tuple[int | str, ...]]) -> Json:
    """A copy without these fields."""
    result = copy.deepcopy(obj)
    for *parents, name in places:
        holder: Any = result
        for part in parents:
            holder = holder[part]
        del holder[name]
    return result


def way_out(error: ErrorDetails) -> str:
    """What to do about a value that only another release can have let in; empty for any other mistake."""
    return UPDATE if error["type"] in _UNKNOWN_VALUE else ""
