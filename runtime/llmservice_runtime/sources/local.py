"""file://path: a model folder or a single file on this machine, used in place."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.errors import FIELD, Origin, SourceError
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.listed import MAX_FILES, checked
from llmservice_runtime.sources.shards import siblings
from llmservice_runtime.sources.uri import ModelUri


class LocalFiles:
    """A folder (hidden entries left out) or one file (with the other parts of a split GGUF). It has no revision."""

    def __init__(self, uri: ModelUri, revision: str | None) -> None:
        self._uri = uri
        origin = Origin(uri.shown, "this machine", "")
        if revision is not None:
            raise origin.bad("spec.model.revision has no meaning for file://.", "Leave revision out.")
        path = next((Path(name) for name in (uri.container, uri.decoded) if name and os.access(name, os.F_OK)), None)
        if path is None:
            raise SourceError(
                f"{FIELD}: {uri.shown}: there is no {uri.container}.",
                "Relative paths are relative to the manifest's folder.",
                FailureClass.MODEL_NOT_FOUND,
            )
        self._folder = path if path.is_dir() else path.parent
        try:
            found = islice(_walk(str(path)), MAX_FILES + 1) if path.is_dir() else _parts(path)
            entries = checked(found, origin)
        except OSError as error:
            raise origin.bad(f"{error.filename} can't be read: {error.strerror}.", "Check its permissions.") from None
        self._entries = {entry.path: entry for entry in entries}

    @property
    def uri(self) -> str:
        """As it was written."""
        return self._uri.shown

    @property
    def revision(self) -> str:
        """Empty: a folder has none."""
        return ""

    @property
    def folder(self) -> Path | None:
        """Where the files are."""
        return self._folder

    @property
    def slot(self) -> tuple[str, str, str]:
        """Never cached; the name is for messages."""
        return str(self._uri.scheme), self._uri.slug, ""

    def entries(self) -> Sequence[FileEntry]:
        """All files, sorted by path."""
        return tuple(self._entries.values())

    def read(self, path: str, start: int, length: int) -> bytes:
        """Bytes [start, start+length), fewer at the end."""
        if path not in self._entries:
            raise SourceError(f"{FIELD}: {self.uri}: no file {path}.", failure=FailureClass.MODEL_NOT_FOUND)
        try:
            with (self._folder / path).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except OSError as error:
            raise SourceError(
                f"{FIELD}: {self._folder / path} can't be read: {error.strerror}.",
                "Check the file and its permissions.",
            ) from None

    def download(self, path: str, destination: Path, advance: Callable[[int], None]) -> None:
        """Local files are used in place; this copies one for a caller that insists."""
        with (self._folder / path).open("rb") as source, destination.open("wb") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)
                advance(len(chunk))


def _parts(path: Path) -> Iterator[FileEntry]:
    """One file, or all parts of a split one that are there; beside a GGUF also what sees pictures for it."""
    beside = sorted(p.name for p in path.parent.glob("*mmproj*.gguf")) if path.suffix.lower() == ".gguf" else []
    for name in dict.fromkeys((*siblings(path.name), *beside)):
        if (path.parent / name).is_file():
            yield FileEntry(name, (path.parent / name).stat().st_size)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file or a link to one; links in a circle lead to none."""
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _walk(root: str) -> Iterator[FileEntry]:
    """Files below a folder; links to files count, links to folders (maybe circles) are not followed."""
    folders = [""]
    while folders:
        below = folders.pop()
        with os.scandir(f"{root}/{below}") as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{below}{entry.name}/")
                elif _is_file(entry):
                    yield FileEntry(below + entry.name, entry.stat().st_size)
