"""Texts below the attributes of a class, read from its source: only what generates schemas asks for them.

Pydantic can collect them for every class, which parses all sources again at each start of the command line.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise


def attribute_docstrings(cls: type) -> dict[str, str]:
    """Attribute -> the text below it, of the class and those it inherits from that have a source."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        if base.__module__.partition(".")[0] in ("pydantic", "builtins", "typing"):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for attribute, text in pairwise(body):
            if not (isinstance(attribute, ast.AnnAssign) and isinstance(attribute.target, ast.Name)):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[attribute.target.id] = inspect.cleandoc(str(text.value.value))
    return found
