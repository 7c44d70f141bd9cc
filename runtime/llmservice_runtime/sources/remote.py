"""What all remote sources share: bounded range reads and resumed downloads, over one `open_range` each."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from llmservice_runtime.sources.errors import Origin, TransientError
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.listed import Listed, checked
from llmservice_runtime.sources.retry import retry
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.uri import ModelUri

NO_RANGE_LIMIT_BYTES = 16 << 20
"""From a server without ranges this much is read to get at a header, not more."""


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes of a file that begin at `offset`."""

    offset: int
    chunks: Iterator[bytes]


class RemoteFiles(Listed, ABC):
    """A model at a hub: implements `Source` over `open_range`."""

    def __init__(
        self, uri: ModelUri, revision: str, entries: Iterable[FileEntry], origin: Origin, settings: SourceSettings
    ) -> None:
        super().__init__(uri, revision, checked(entries, origin))
        self._origin = origin
        self._settings = settings

    def read(self, path: str, start: int, length: int) -> bytes:
        """Bytes [start, start+length), fewer at the end of the file."""
        entry = self.entry(path)
        stop = min(start + length, entry.size)
        if start >= stop:
            return b""
        return retry(lambda: self._read_once(path, start, stop), self._origin, self._settings)

    def download(self, path: str, destination: Path, advance: Callable[[int], None]) -> None:
        """Resume after what `destination` holds; survives cuts as long as bytes keep coming."""
        entry = self.entry(path)
        held = size_of(destination)
        if held > entry.size:
            destination.unlink()
            held = 0
        advance(held)
        retry(
            lambda: self._append(entry, destination, advance),
            self._origin,
            self._settings,
            lambda: size_of(destination),
        )

    def entry(self, path: str) -> FileEntry:
        """The listing's entry; MODEL_NOT_FOUND when there is none."""
        if path not in self._entries:
            raise self._origin.missing(f"file {path} at revision {self._revision}")
        return self._entries[path]

    @abstractmethod
    def open_range(self, path: str, start: int, stop: int | None) -> AbstractContextManager[Body]:
        """One attempt to open a file from `start` to before `stop` (None = its end).

        The body may begin at 0 when the server knows no ranges. Raises TransientError for what may pass, also while
        the body is read, and SourceError for what does not.
        """

    def _read_once(self, path: str, start: int, stop: int) -> bytes:
        with self.open_range(path, start, stop) as body:
            if body.offset < start and stop > NO_RANGE_LIMIT_BYTES and start > 0:
                raise self._origin.bad(
                    f"{self._origin.hub} does not answer range requests, which reading the header of {path} needs.",
                    "Enable ranges (Accept-Ranges: bytes) on that server or proxy, or download the model and use file://.",
                )
            data = bytearray()
            for chunk in body.chunks:
                data += chunk
                if body.offset + len(data) >= stop:
                    break
        result = bytes(data[start - body.offset : stop - body.offset])
        if len(result) < stop - start:
            raise TransientError(f"{path} ended after {len(result)} of {stop - start} bytes")
        return result

    def _append(self, entry: FileEntry, destination: Path, advance: Callable[[int], None]) -> None:
        held = size_of(destination)
        if held == entry.size:
            destination.touch()
            return
        with self.open_range(entry.path, held, None) as body:
            if body.offset < held:
                advance(body.offset - held)
            with destination.open("r+b" if destination.exists() else "wb") as file:
                file.seek(body.offset)
                file.truncate()
                for chunk in body.chunks:
                    file.write(chunk)
                    advance(len(chunk))
                    if file.tell() > entry.size:
                        raise self._origin.damaged(entry.path, f"it is longer than the {entry.size} bytes listed")
        if (now := size_of(destination)) < entry.size:
            raise TransientError(f"{entry.path} ended after {now} of {entry.size} bytes")


def size_of(path: Path) -> int:
    """Bytes of a file, 0 when there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
