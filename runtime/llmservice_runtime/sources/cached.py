"""A source that remembers: header reads answered from the cache, or from the downloaded files, before the network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.cache import model_folder
from llmservice_runtime.sources.errors import FIELD, SourceError
from llmservice_runtime.sources.files import FileEntry, Source
from llmservice_runtime.sources.headers import HeaderStore
from llmservice_runtime.sources.listed import Listed
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.uri import ModelUri

log = logging.getLogger(__name__)
Connect = Callable[[str | None, SourceSettings], Source]
"""Open the source itself at a revision: resolves and lists, over the network."""


class CachedFiles(Listed):
    """A `Source` at a revision that is known here; `connect` is called when something is not."""

    def __init__(
        self,
        uri: ModelUri,
        revision: str,
        entries: Sequence[FileEntry],
        cache: Path,
        connect: Callable[[], Source],
    ) -> None:
        super().__init__(uri, revision, entries)
        self._store = HeaderStore(cache, uri)
        self._connect = connect
        self._source: Source | None = None
        self._published = model_folder(cache, self)

    def read(self, path: str, start: int, length: int) -> bytes:
        """From the downloaded file, else from what was read before, else over the network (and remembered)."""
        entry = self._entries.get(path)
        if entry is None:
            raise SourceError(f"{FIELD}: {self.uri} has no file {path}.", failure=FailureClass.MODEL_NOT_FOUND)
        stop = min(start + length, entry.size)
        if start >= stop:
            return b""
        local = self._local(entry, start, stop)
        if local is not None:
            return local
        data = self._store.covered(self._revision, path, start, stop)
        if data is None:
            data = self._connected().read(path, start, length)
            _forgivingly(lambda: self._store.keep(self._revision, path, start, data or b""))
        return data

    def download(self, path: str, destination: Path, advance: Callable[[int], None]) -> None:
        """Over the network."""
        self._connected().download(path, destination, advance)

    def _local(self, entry: FileEntry, start: int, stop: int) -> bytes | None:
        try:
            file = self._published / entry.path
            if file.stat().st_size != entry.size:
                return None
            with file.open("rb") as opened:
                opened.seek(start)
                return opened.read(stop - start)
        except OSError:
            return None

    def _connected(self) -> Source:
        if self._source is None:
            self._source = self._connect()
        return self._source


def open_cached(
    uri: ModelUri, revision: str | None, connect: Connect, cache: Path, settings: SourceSettings
) -> CachedFiles:
    """Resolve `revision` at the hub; from the cache when it is a known commit, the hub is away, or we are offline."""
    store = HeaderStore(cache, uri)
    known = store.revision_of(revision)

    def from_cache(commit: str, entries: Sequence[FileEntry]) -> CachedFiles:
        return CachedFiles(uri, commit, entries, cache, lambda: _reconnect(uri, commit, connect, settings))

    if known is not None and (settings.offline or known == revision):
        return from_cache(known, store.listing(known) or ())
    if settings.offline:
        raise _offline(uri)
    patient = known is None
    try:
        source = connect(revision, settings if patient else settings.impatient())
    except SourceError as error:
        if known is None or error.failure is not FailureClass.HUB_UNREACHABLE:
            raise
        log.warning("%s Going on with revision %s, which is on this machine.", error.reason, known)
        return from_cache(known, store.listing(known) or ())
    entries = source.entries()
    _forgivingly(lambda: store.remember(revision, source.revision, entries))
    if not patient:
        return from_cache(source.revision, entries)
    return CachedFiles(uri, source.revision, entries, cache, lambda: source)


def _reconnect(uri: ModelUri, commit: str, connect: Connect, settings: SourceSettings) -> Source:
    """Open the hub at the revision that is known here; another content there is an error, never mixed in."""
    if settings.offline:
        raise _offline(uri)
    source = connect(commit, settings)
    if source.revision != commit:
        raise SourceError(
            f"{FIELD}: {uri.shown} is at revision {source.revision} now, not at {commit}, which this plan is for.",
            "Run the command again: it plans with what is there now.",
            FailureClass.MODEL_CHANGED,
        )
    return source


def _offline(uri: ModelUri) -> SourceError:
    return SourceError(
        f"{FIELD}: {uri.shown} is not on this machine, and HF_HUB_OFFLINE forbids to ask for it.",
        "Unset HF_HUB_OFFLINE once to read it.",
        FailureClass.HUB_UNREACHABLE,
    )


def _forgivingly(write: Callable[[], None]) -> None:
    """The header cache is a convenience: a full or read-only disk must not stop a plan."""
    try:
        write()
    except OSError as error:
        log.warning("The header cache can't be written: %s", error)
