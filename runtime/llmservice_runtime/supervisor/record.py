"""Small files others read while the supervisor runs: the failure record, the replica's state."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from llmservice_runtime.contract.failure import FailureRecord


def write_failure(path: str, record: FailureRecord | None) -> None:
    """Write (or, with None, empty) the failure record; an empty path means nowhere. OSError when it can't be written.

    A container's termination log is a mounted file that can't be replaced, so it is written in place; the record is one
    write of at most 4 KiB.
    """
    if not path:
        return
    text = record.to_json() if record else ""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_mount() or target.is_char_device():
        target.write_text(text)
        return
    _replace(target, text)


def write_state(path: str, body: Mapping[str, object]) -> None:
    """Publish the replica's state as JSON, atomically; an empty path means nowhere."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        _replace(Path(path), json.dumps(body, indent=2) + "\n")


def _replace(target: Path, text: str) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(target)
