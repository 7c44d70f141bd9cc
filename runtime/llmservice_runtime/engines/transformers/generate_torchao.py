"""The configurations that torchao makes from a checkpoint, and their fields. Read in its source: it imports torch.

`config_from_dict` looks for a checkpoint's `_type` in certain modules, and gives it what stands in `_data`: a name that
none of them has, or a field that the class has no longer, ends the load. So does another `_version` than the class's:
what weights of an earlier one are made of is gone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

CONFIG = "torchao.core.config"
END = "Config"
"""Of the names that are looked at: what else a configuration holds are enumerations and sizes of groups."""
FIRST = 1
"""The version of one that says none; so reads torchao checkpoints, too."""


def fields() -> dict[str, list[str]]:
    """Name -> fields, of all that a checkpoint may name."""
    return {
        name: sorted({*_fields(*found)})
        for module in _allowed()
        for name in sorted(_names(module))
        if name.endswith(END) and isinstance(found := _found(module, name), tuple)
    }


def versions() -> dict[str, int]:
    """Name -> version, of all that a checkpoint may name."""
    return {
        name: next(_versions(*found), FIRST)
        for module in _allowed()
        for name in _names(module)
        if name.endswith(END) and isinstance(found := _found(module, name), tuple)
    }


def _allowed() -> list[str]:
    """The modules in which a name is looked for."""
    for node in ast.walk(_tree(CONFIG)):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ALLOWED_AO_MODULES":
            return sorted(module for module in ast.literal_eval(node.value) if _file(module) is not None)
    raise RuntimeError(f"{CONFIG} no longer lists the modules that it allows")


def _fields(module: str, kind: ast.ClassDef) -> Iterator[str]:
    for node in kind.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            yield from (one.arg for one in (*node.args.args[1:], *node.args.kwonlyargs))
    for base in kind.bases:
        found = _found(module, base.id) if isinstance(base, ast.Name) else None
        if found is not None and found[0] != CONFIG:  # that is no dataclass
            yield from _fields(*found)


def _versions(module: str, kind: ast.ClassDef) -> Iterator[int]:
    """What the class says of its version, its own first."""
    for node in kind.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "version" and node.value is not None:
            stated = (
                node.value.value if isinstance(node.value, ast.Constant) else FIRST
            )  # by the name that it has there
            yield stated if isinstance(stated, int) else FIRST
    for base in kind.bases:
        found = _found(module, base.id) if isinstance(base, ast.Name) else None
        if found is not None and found[0] != CONFIG:
            yield from _versions(*found)


def _found(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """Where a class is defined that a module has under this name."""
    node = _names(module).get(name)
    if isinstance(node, ast.ClassDef):
        return module, node
    if isinstance(node, ast.Assign):
        return _found(module, node.value.id) if isinstance(node.value, ast.Name) else None
    if isinstance(node, ast.ImportFrom):
        package = module if _is_package(module) else module.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        source = ".".join(filter(None, (package if node.level else "", node.module)))
        original = next(one.name for one in node.names if (one.asname or one.name) == name)
        return _found(source, original) if _file(source) is not None else None
    return None


@cache
def _names(module: str) -> dict[str, ast.AST]:
    """What a module's names are made by, at its top, under conditions too."""
    names: dict[str, ast.AST] = {}
    waiting: list[ast.stmt] = list(reversed(_tree(module).body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name: node for one in node.names}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = node
        elif isinstance(node, ast.If | ast.Try):
            waiting += reversed(node.body)
    return names


@cache
def _tree(module: str) -> ast.Module:
    file = _file(module)
    if file is None:
        raise RuntimeError(f"there is no {module} any more")
    return ast.parse(file.read_text())


def _is_package(module: str) -> bool:
    file = _file(module)
    return file is not None and file.name == "__init__.py"


@cache
def _file(module: str) -> Path | None:
    """Its source; found without importing it."""
    package, *rest = module.split(".")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    place = Path(spec.submodule_search_locations[0]).joinpath(*rest)
    files = (place / "__init__.py", place.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)
