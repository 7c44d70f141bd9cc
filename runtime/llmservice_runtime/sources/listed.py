"""What sources have in common: a list of files, checked; over a network also a URI and a resolved revision."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from llmservice_runtime.sources.errors import Origin
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.uri import ModelUri

MAX_FILES = 100_000


class Listed:
    """The descriptive half of `Source`; how bytes are read is the subclass's."""

    def __init__(self, uri: ModelUri, revision: str, entries: Iterable[FileEntry]) -> None:
        self._uri = uri
        self._revision = revision
        self._entries = {entry.path: entry for entry in entries}

    @property
    def uri(self) -> str:
        """The URI as it may be shown."""
        return self._uri.shown

    @property
    def revision(self) -> str:
        """The commit or digest that the asked revision was resolved to."""
        return self._revision

    @property
    def folder(self) -> Path | None:
        """None: the files are not here before `fetch`."""
        return None

    @property
    def slot(self) -> tuple[str, str, str]:
        """Scheme, owner--name, revision."""
        return str(self._uri.scheme), self._uri.slug, self._revision

    def entries(self) -> Sequence[FileEntry]:
        """All files, sorted by path."""
        return tuple(self._entries.values())


def checked(entries: Iterable[FileEntry], origin: Origin) -> list[FileEntry]:
    """Entries sorted by path. A name that would leave the model's folder, or too many files, are refused."""
    listed = sorted(entries, key=lambda entry: entry.path)
    if len(listed) > MAX_FILES:
        raise origin.bad(f"it holds more than {MAX_FILES} files.", "Point the URI at one model.")
    if not listed:
        raise origin.missing("files there")
    for entry in listed:
        parts = entry.path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in entry.path or os.sep != "/" or "\\" in entry.path:
            raise origin.damaged("the listing", f"it holds the file name {entry.path!r}")
        if entry.size < 0:
            raise origin.damaged("the listing", f"{entry.path} has {entry.size} bytes")
    return listed
