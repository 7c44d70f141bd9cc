"""hf://owner/name: the Hugging Face hub or a mirror of it (HF_ENDPOINT)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from llmservice_runtime.sources.errors import Origin
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.hf_session import HubFile, HubSession
from llmservice_runtime.sources.http import HttpClient, open_range, read_json, retry_after
from llmservice_runtime.sources.remote import Body, RemoteFiles, size_of
from llmservice_runtime.sources.retry import retry
from llmservice_runtime.sources.secrets import HF_TOKEN, Secrets
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.uri import ModelUri


class HubFiles(RemoteFiles):
    """A repository at a commit. Headers by range request, files by huggingface_hub."""

    def __init__(self, uri: ModelUri, revision: str | None, secrets: Secrets, settings: SourceSettings) -> None:
        endpoint = settings.hf_endpoint
        origin = Origin(uri.shown, f"the Hugging Face hub at {endpoint}", HF_TOKEN)
        self._token = _token(secrets)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._client = HttpClient(origin, settings, headers)
        wanted = revision or "main"
        info = _info(self._client, endpoint, uri.container, wanted, bool(self._token))
        commit = info.get("sha")
        if not isinstance(commit, str) or not commit.isalnum():
            raise origin.bad(f"{endpoint} gives no commit for revision {wanted}.", "Check HF_ENDPOINT.")
        self._base = f"{endpoint}/{uri.container}/resolve/{commit}/"
        with origin.understood():
            entries = _entries(info)
        super().__init__(uri, commit, entries, origin, settings)

    def open_range(self, path: str, start: int, stop: int | None) -> AbstractContextManager[Body]:
        """Through the resolve URL, which redirects to where large files are."""
        return open_range(self._client, self._base + quote(path), path, start, stop)

    def download(self, path: str, destination: Path, advance: Callable[[int], None]) -> None:
        """huggingface_hub's http_get, which resumes within one run; the partial file makes it resume between runs."""
        entry = self.entry(path)
        if size_of(destination) > entry.size:
            destination.unlink()
        where = HubFile(self._settings.hf_endpoint, self._uri.container, self._revision, path, self._token)
        session = HubSession(self._origin, where, advance)
        retry(lambda: session.get(entry, destination), self._origin, self._settings, lambda: size_of(destination))


def _info(client: HttpClient, endpoint: str, repository: str, revision: str, has_token: bool) -> dict[str, Any]:
    """Commit and files in one request. The hub says 401 for a missing repository, to those without a token."""
    url = f"{endpoint}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"

    def once() -> dict[str, Any]:
        with client.send("GET", url) as response:
            _raise_for_code(client.origin, response, repository, revision, has_token)
            answer = read_json(client.origin, response, repository)
        return answer if isinstance(answer, dict) else {}

    return retry(once, client.origin, client.settings)


def _raise_for_code(origin: Origin, response: httpx.Response, repository: str, revision: str, has_token: bool) -> None:
    code = response.headers.get("x-error-code", "")
    status = response.status_code
    if code == "RevisionNotFound":
        raise origin.missing(f"revision {revision} of {repository}")
    if code == "RepoNotFound" and (status == 404 or has_token):
        raise origin.missing(f"repository {repository} (or it is private and the token may not see it)")
    if code == "RepoNotFound":
        raise origin.refused(status, "the repository does not exist, or is private")
    if code == "GatedRepo":
        raise origin.refused(status, "the model is gated: its license must be accepted first")
    if status >= 400:
        raise origin.from_status(
            status, f"repository {repository} at revision {revision}", retry_after(response.headers)
        )


def _entries(info: dict[str, Any]) -> list[FileEntry]:
    entries = []
    for file in info.get("siblings") or []:
        large = file.get("lfs") or {}
        size = large.get("size", file.get("size"))
        entries.append(FileEntry(str(file["rfilename"]), int(size or 0), large.get("sha256")))
    return entries


def _token(secrets: Secrets) -> str | None:
    """HF_TOKEN, else what `hf auth login` stored, unless a secret was named."""
    if token := secrets.get(HF_TOKEN):
        return token
    if not secrets.from_environment:
        return None
    env = secrets.environ
    home = env.get("HF_HOME") or (f"{env['HOME']}/.cache/huggingface" if env.get("HOME") else "")
    path = env.get("HF_TOKEN_PATH") or (f"{home}/token" if home else "")
    try:
        return Path(path).read_text().strip() or None if path else None
    except OSError:
        return None
