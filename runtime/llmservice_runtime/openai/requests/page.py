"""The tables of docs/api.md and docs/embeddings.md, from the table of fields and from what is refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from llmservice_runtime.openai.requests.parse import INSTEAD
from llmservice_runtime.openai.requests.table import (
    BOTH,
    CHAT,
    COMPLETIONS,
    FIELDS,
    POOLED,
    Field,
    Where,
    default_of,
)

BLOCK = re.compile(r"(<!-- generated: ([a-z -]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Refusals = Mapping[str, Mapping[str, str]]
"""Engine, as people write it -> field -> what to use instead."""


def api_page(text: str, engines: Refusals) -> str:
    """A page with its generated blocks as they are now; KeyError names a block that nobody knows."""
    blocks = {
        "fields of both": _fields(field for field in FIELDS if field.where >= BOTH),
        "fields of chat": _fields(field for field in FIELDS if field.where & BOTH == CHAT),
        "fields of completions": _fields(field for field in FIELDS if field.where & BOTH == COMPLETIONS),
        "fields of tokens": _token_fields(),
        **{f"fields of {where.name.lower()}": _all_of(where) for where in Where if where in POOLED},
        "no-ops": _no_ops(),
        "refused": _refused(),
        "refused by engines": _by_engine(engines),
    }
    return BLOCK.sub(lambda found: f"{found[1]}\n{blocks[found[2]]}\n{found[3]}", text)


def _fields(fields: Iterable[Field]) -> str:
    rows = ((f"`{field.name}`", field.says, default_of(field)) for field in fields if not field.no_op)
    return _table(("Field", "Meaning and range", "Default"), rows)


def _all_of(where: Where) -> str:
    """Of one endpoint, no-ops too."""
    rows = (
        (f"`{field.name}`", f"{field.says}; carries nothing" if field.no_op else field.says, default_of(field))
        for field in FIELDS
        if where in field.where
    )
    return _table(("Field", "Meaning and range", "Default"), rows)


def _token_fields() -> str:
    rows = []
    for where in (Where.TOKENIZE, Where.DETOKENIZE):
        names = [f"`{field.name}`" for field in FIELDS if where in field.where]
        rows.append((f"`{where.value}`", ", ".join(names)))
    return _table(("Endpoint", "Fields"), rows)


def _no_ops() -> str:
    rows = (
        (f"`{field.name}`", field.says, "both" if field.where >= BOTH else "chat") for field in FIELDS if field.no_op
    )
    return _table(("Field", "May be", "Endpoints"), rows)


def _refused() -> str:
    """Without fields that another endpoint takes."""
    known = {field.name for field in FIELDS if field.where - POOLED}
    return _table(
        ("Field", "Instead"), ((f"`{name}`", _sentence(INSTEAD[name])) for name in sorted(INSTEAD.keys() - known))
    )


def _by_engine(engines: Refusals) -> str:
    rows = [(label, f"`{name}`", _sentence(text)) for label, fields in engines.items() for name, text in fields.items()]
    if not rows:
        return "Nothing: each honours every field.\n"
    return _table(("Engine", "Field", "Instead"), rows)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
