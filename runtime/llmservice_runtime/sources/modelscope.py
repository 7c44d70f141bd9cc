"""modelscope://owner/name: the ModelScope hub (MODELSCOPE_ENDPOINT)."""

from __future__ import annotations

import hashlib
import re
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.errors import Origin, SourceError
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.http import HttpClient, open_range
from llmservice_runtime.sources.remote import Body, RemoteFiles
from llmservice_runtime.sources.secrets import MODELSCOPE_API_TOKEN, Secrets
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.uri import ModelUri

DEFAULT = "master"
"""The branch without a revision."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


class ModelScopeFiles(RemoteFiles):
    """A repository at a commit."""

    def __init__(self, uri: ModelUri, revision: str | None, secrets: Secrets, settings: SourceSettings) -> None:
        endpoint = settings.modelscope_endpoint
        origin = Origin(uri.shown, f"the ModelScope hub at {endpoint}", MODELSCOPE_API_TOKEN)
        headers = {}
        if token := secrets.get(MODELSCOPE_API_TOKEN):
            headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"}
        self._client = HttpClient(origin, settings, headers)
        wanted = revision or DEFAULT
        self._api = f"{endpoint}/api/v1/models/{uri.container}/repo"
        try:
            commit, entries = self._list(uri, wanted, origin)
        except SourceError as error:
            if error.failure is not FailureClass.MODEL_NOT_FOUND or not _COMMIT.fullmatch(wanted):
                raise
            commit, entries = self._list(uri, DEFAULT, origin)  # it may be a digest that a listing gave
            if _digest(entries) != wanted:
                raise error from None
            commit, wanted = None, DEFAULT
        # Without a commit from the hub the listing's digest pins the content, and files are asked for by branch.
        self._asked = commit or wanted
        super().__init__(uri, commit or _digest(entries), entries, origin, settings)

    def _list(self, uri: ModelUri, revision: str, origin: Origin) -> tuple[str | None, list[FileEntry]]:
        """The commit of a revision, where the hub tells it, and its files."""
        answer = self._client.json(
            f"{self._api}/files?Revision={quote(revision, safe='')}&Recursive=True",
            f"repository {uri.container} at revision {revision}",
        )
        with origin.understood():
            files = _files(answer, origin, uri.container, revision)
            entries = [FileEntry(str(f["Path"]), int(f.get("Size") or 0), f.get("Sha256") or None) for f in files]
            return _commit(revision, files), entries

    def open_range(self, path: str, start: int, stop: int | None) -> AbstractContextManager[Body]:
        """Range request."""
        url = f"{self._api}?Revision={quote(self._asked, safe='')}&FilePath={quote(path, safe='')}"
        return open_range(self._client, url, path, start, stop)


def _files(answer: Any, origin: Origin, repository: str, revision: str) -> list[dict[str, Any]]:
    """The listing's files, without folders. The hub reports some failures with status 200 and a code."""
    if not isinstance(answer, dict):
        raise origin.bad(f"{origin.hub} answers a listing that is none.", "Check MODELSCOPE_ENDPOINT.")
    code = answer.get("Code", 200)
    if code != 200 or answer.get("Success") is False:
        status = code if isinstance(code, int) and 400 <= code < 600 else 404
        raise origin.from_status(status, f"repository {repository} at revision {revision}")
    files = (answer.get("Data") or {}).get("Files") or []
    return [file for file in files if file.get("Type") != "tree"]


def _commit(wanted: str, files: list[dict[str, Any]]) -> str | None:
    """The commit that changed something last. The hub tells the last commit of each file, not the branch's."""
    if _COMMIT.fullmatch(wanted):
        return wanted
    dated = [f for f in files if _COMMIT.fullmatch(str(f.get("Revision", ""))) and f.get("CommittedDate")]
    return str(max(dated, key=lambda f: int(f["CommittedDate"]))["Revision"]) if dated else None


def _digest(entries: list[FileEntry]) -> str:
    lines = sorted(f"{entry.path}\0{entry.size}\0{entry.sha256}" for entry in entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:40]
