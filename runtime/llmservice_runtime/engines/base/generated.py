"""capabilities.json as a file: its text, and the two hashes that say whether it is stale. Pure but for reading files.

The text is canonical, keys sorted and an entry a line: raising an engine's version reads as a diff. `lock` is the
SHA-256 of the lock the engine was installed from, `digest` that of the content.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FILE = "capabilities.json"
REMEDY = "Write it anew: make generate-engines"
Content = Mapping[str, Any]


def text_of(content: Content) -> str:
    """The file's text: a line for each entry of a section."""
    sections = ",\n".join(f"  {json.dumps(name)}: {_section(content[name])}" for name in sorted(content))
    return f"{{\n{sections}\n}}\n"


def sealed(content: Content, lock: Path) -> dict[str, Any]:
    """`content` with the hashes of its lock and of itself."""
    whole = {**content, "lock": file_hash(lock)}
    return {**whole, "digest": digest_of(whole)}


def digest_of(content: Content) -> str:
    """SHA-256 of the content without its digest."""
    bare = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stale(file: Path, lock: Path) -> str:
    """Why the file can't be trusted, as a sentence; empty when both hashes hold."""
    if not file.is_file():
        return f"{file}: there is none. {REMEDY}"
    content = json.loads(file.read_text(encoding="utf-8"))
    if content.get("digest") != digest_of(content):
        return f"{file}: edited by hand, its digest is of another content. {REMEDY}"
    if content.get("lock") != file_hash(lock):
        return f"{file}: generated from another {lock.name} than the one that stands here. {REMEDY}"
    return ""


def main(ask: Callable[[], Content], argv: list[str] | None = None) -> int:
    """What each engine's generate.py runs: ask the engine, write --out (default: standard output)."""
    parser = argparse.ArgumentParser(description="Write capabilities.json by asking the engine that is installed here.")
    parser.add_argument("--lock", type=Path, required=True, help="the lock that this environment was made from")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    args = parser.parse_args(argv)
    args.out.write_text(text_of(sealed(ask(), args.lock)), encoding="utf-8")
    return 0


def _section(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        entries = (f"{json.dumps(name)}: {_line(value[name])}" for name in sorted(value, key=_natural))
        return "{\n    " + ",\n    ".join(entries) + "\n  }"
    if isinstance(value, list) and value:
        return "[\n    " + ",\n    ".join(map(_line, value)) + "\n  ]"
    return _line(value)


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _natural(name: str) -> tuple[int, str]:
    """Numbers by value, before all else."""
    return (int(name), "") if name.isdigit() else (sys.maxsize, name)
