"""A note of the adapter that an engine loads at the moment. It is left where the engine dies of it.

The engine writes it before each load and takes it away after; its supervisor, or the one that comes after where both
died, reads it (`supervisor.adapter_guard`). `RuntimeSettings.adapters_guard` is the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from llmservice_runtime.contract.adapters import Fetched

NOTE = "loading.json"


@contextmanager
def noted(folder: str, adapter: Fetched) -> Iterator[None]:
    """Around one load. An empty folder = no note; one that can't be written keeps no adapter from being loaded."""
    if not folder:
        yield
        return
    note = Path(folder) / NOTE
    with suppress(OSError):
        (draft := note.with_suffix(".new")).write_text(json.dumps(asdict(adapter)))
        draft.replace(note)
    try:
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)


def take_note(folder: Path) -> Fetched | None:
    """The adapter whose load was never over, once; None = there is none."""
    note = folder / NOTE
    try:
        body = json.loads(note.read_text())
        return Fetched(str(body["name"]), str(body["path"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
