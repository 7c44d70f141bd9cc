"""Small files others read while the supervisor runs: the failure record, the replica's state."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureRecord


def check_writable(setting: str, path: str) -> None:
    """UserError when `path` can't be written, naming the setting; an empty path means nowhere. No folder is made."""
    if not path:
        return
    target = Path(path)
    try:
        place = target if target.exists() else target.parent
        if target.is_dir():
            problem = "it is a folder"
        elif not place.exists():
            problem = f"there is no folder {place}"
        elif place is not target and not place.is_dir():
            problem = f"{place} is no folder"
        elif not os.access(place, os.W_OK):
            problem = f"user {os.getuid()} may not write {place}"
        else:
            return
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}"
    raise UserError(f"`{setting}` is {path}, which can't be written: {problem}.", "Name a file that can be.")


def write_failure(path: str, record: FailureRecord | None) -> None:
    """Write (or, with None, empty) the failure record; an empty path means nowhere. OSError when it can't be written.

    A container's termination log is a mounted file: it can't be replaced, and nothing may be made beside it. It is
    written in place, in one write of at most 4 KiB.
    """
    if not path:
        return
    text = record.to_json() if record else ""
    target = Path(path)
    if not target.is_char_device():
        try:
            _replace(target, text)
        except OSError:
            if not target.exists():
                raise
        else:
            return
    target.write_text(text)


def write_state(path: str, body: Mapping[str, object]) -> None:
    """Publish the replica's state as JSON, atomically; an empty path means nowhere."""
    if path:
        _replace(Path(path), json.dumps(body, indent=2) + "\n")


def _replace(target: Path, text: str) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(text)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
