"""What kernels of attention take as a KV cache: types and tokens of a block, read from their source.

Importing them needs each platform's own packages, so nothing is imported. A method of one class is read as it stands
there: what it returns in any case counts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BASE = "v1.attention.backend.AttentionBackend"


def kv_caches(platforms: tuple[str, ...]) -> dict[str, dict[str, dict[str, Any]]]:
    """Platform -> what a layer keeps -> backends with their `types`, and `blocks`: multiples of one of these."""
    import vllm

    root = Path(vllm.__file__).parent
    places = dict(_registered(root))
    return {platform: _platform(root, places, platform.lower()) for platform in platforms}


def _platform(root: Path, places: dict[str, str], platform: str) -> dict[str, dict[str, Any]]:
    tree = ast.parse((root / "platforms" / f"{platform}.py").read_text(encoding="utf-8"))
    named = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "AttentionBackendEnum"
    }
    found: dict[str, dict[str, Any]] = {}
    usual = _told(root, _BASE)
    for name in sorted(named & places.keys()):
        types, blocks = _told(root, places[name])
        if types is None and blocks is None:  # made of others, or inherits from another module
            continue
        kind = "sparse" if "SPARSE" in name else "latents" if "MLA" in name else "heads"
        told = {"types": usual[0] if types is None else types, "blocks": usual[1] if blocks is None else blocks}
        found.setdefault(kind, {})[name] = told
    return found


def _registered(root: Path) -> Iterator[tuple[str, str]]:
    """Name of a backend -> where its class stands, as the registry has it."""
    tree = ast.parse((root / "v1/attention/backends/registry.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == "AttentionBackendEnum":
            for one in node.body:
                if isinstance(one, ast.Assign) and isinstance(place := _constant(one.value), str) and place:
                    yield ast.unparse(one.targets[0]), place


def _constant(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _told(root: Path, place: str) -> tuple[list[str] | None, list[int] | None]:
    """Types and blocks of one class, or of its bases in the same module; None = they don't say."""
    module, _, name = place.removeprefix("vllm.").rpartition(".")
    path = root / f"{module.replace('.', '/')}.py"
    if not path.exists():
        return None, None
    classes = {
        node.name: node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    types: list[str] | None = None
    blocks: list[int] | None = None
    while node := classes.get(name):
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and ast.unparse(one.target) == "supported_kv_cache_dtypes" and one.value:
                types = types if types is not None else _constant(one.value)
            if isinstance(one, ast.FunctionDef) and one.name == "get_supported_kernel_block_sizes":
                blocks = blocks if blocks is not None else sorted(set(_sizes(one)))
        name = next((ast.unparse(base) for base in node.bases if ast.unparse(base) != name), "")
    return types, blocks


def _sizes(method: ast.FunctionDef) -> Iterator[int]:
    """Numbers in the lists that a method returns: `[16, 32]`, `[MultipleOf(16)]`."""
    for node in ast.walk(method):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.List):
            yield from (one.value for one in ast.walk(node.value) if isinstance(one, ast.Constant))  # type: ignore[misc]
