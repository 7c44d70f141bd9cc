"""What every source over a network has in common: a URI, a resolved revision, a list of files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.uri import ModelUri


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
