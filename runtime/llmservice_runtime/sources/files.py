"""One revision of one model, as the rest of the product sees it: what files it has, and any byte range of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a model: `path` relative to the root, `size` in bytes, `sha256` in hex where the hub knows it."""

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

    @property
    def folder(self) -> Path | None:
        """The folder on this machine that holds all files already (file://); None = they must be downloaded."""

    def entries(self) -> Sequence[FileEntry]:
        """All files, sorted by path."""

    def read(self, path: str, start: int, length: int) -> bytes:
        """Bytes [start, start+length) of a file, fewer at its end; one range request, never the whole file."""


class Source(ModelFiles, Protocol):
    """Model files that can also be brought onto this machine."""

    @property
    def slot(self) -> tuple[str, str, str]:
        """Scheme, owner--name and revision: where the cache keeps it."""

    def download(self, path: str, destination: Path, advance: Callable[[int], None]) -> None:
        """Bring one whole file to `destination`, continuing after what is already there.

        `advance` gets every count of bytes that is on disk, what was there before first; a negative count when the
        server makes it start over. Size and hash are the caller's business.
        """
