"""One revision of one model, as the rest of the product sees it: what files it has, and any byte range of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a model: `path` relative to the model's root, `size` in bytes, `sha256` in hex where the hub knows it."""

    path: str
    size: int
    sha256: str | None = None


class ModelFiles(Protocol):
    """A model at a fixed revision. Reading headers needs nothing else; errors are SourceError."""

    @property
    def uri(self) -> str:
        """The URI it was opened from."""

    @property
    def revision(self) -> str:
        """The commit (or digest, version, ETag) that `main` was resolved to, once; empty where a source has none."""

    def entries(self) -> Sequence[FileEntry]:
        """All files, sorted by path."""

    def read(self, path: str, start: int, length: int) -> bytes:
        """Bytes [start, start+length) of a file, fewer at its end; one range request, never the whole file."""
