"""What was read of a model before: its revisions, its listing and header bytes. Lets a model be planned offline."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from llmservice_runtime.sources.cache import safe_revision
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.uri import ModelUri

LISTING = "listing.json"


class HeaderStore:
    """`headers/<scheme>/<owner--name>/`: `refs/` maps what was asked for to a revision, one folder per revision.

    Every file is written once, by rename; one that is damaged, missing or closed to this user reads as absent. What
    can't be written is OSError.
    """

    def __init__(self, cache: Path, uri: ModelUri) -> None:
        self._root = cache / "headers" / str(uri.scheme) / uri.slug
        self._reference = uri.reference

    def revision_of(self, asked: str | None) -> str | None:
        """The revision that `asked` (a branch, a commit, None = default) was last resolved to."""
        if asked is not None and self.listing(asked) is not None:
            return asked
        try:
            revision = self._ref(asked).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
        return revision if revision and self.listing(revision) is not None else None

    def listing(self, revision: str) -> list[FileEntry] | None:
        """The files of a revision, None when it was never listed."""
        try:
            body = json.loads((self._folder(revision) / LISTING).read_text())
            return [FileEntry(str(e["path"]), int(e["size"]), e["sha256"]) for e in body["entries"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, asked: str | None, revision: str, entries: Sequence[FileEntry]) -> None:
        """Keep a listing, and what was asked for to get it."""
        body = {"revision": revision, "entries": [asdict(entry) for entry in entries]}
        _write(self._folder(revision) / LISTING, json.dumps(body).encode())
        _write(self._ref(asked), revision.encode())

    def covered(self, revision: str, path: str, start: int, stop: int) -> bytes | None:
        """Bytes [start, stop) when the stored pieces cover them without a gap, else None."""
        pieces = self._pieces(revision, path)
        result = bytearray()
        position = start
        while position < stop:
            covering = [piece for piece in pieces if piece[0] <= position < piece[1]]
            if not covering:
                return None
            first, last = max(covering, key=lambda piece: piece[1])
            try:
                with (self._piece_folder(revision, path) / f"{first}-{last}").open("rb") as file:
                    file.seek(position - first)
                    data = file.read(min(last, stop) - position)
            except OSError:
                return None
            if len(data) != min(last, stop) - position:
                return None
            result += data
            position += len(data)
        return bytes(result)

    def keep(self, revision: str, path: str, start: int, data: bytes) -> None:
        """Store the bytes of a file from `start`."""
        if data:
            _write(self._piece_folder(revision, path) / f"{start}-{start + len(data)}", data)

    def _pieces(self, revision: str, path: str) -> list[tuple[int, int]]:
        pieces = []
        with contextlib.suppress(OSError):
            for file in self._piece_folder(revision, path).iterdir():
                first, _, last = file.name.partition("-")
                if first.isdigit() and last.isdigit():
                    pieces.append((int(first), int(last)))
        return pieces

    def _folder(self, revision: str) -> Path:
        return self._root / safe_revision(revision)

    def _piece_folder(self, revision: str, path: str) -> Path:
        return self._folder(revision) / hashlib.sha256(path.encode()).hexdigest()[:24]

    def _ref(self, asked: str | None) -> Path:
        name = hashlib.sha256(f"{self._reference}|{asked or ''}".encode()).hexdigest()[:24]
        return self._root / "refs" / name


def _write(path: Path, data: bytes) -> None:
    """Publish by rename: a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
