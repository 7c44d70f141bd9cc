"""hf://owner/name: the Hugging Face hub or a mirror of it (HF_ENDPOINT)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from llmservice_runtime.sources.errors import Origin, SourceError, TransientError
from llmservice_runtime.sources.files import FileEntry
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
        self._headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._client = HttpClient(origin, settings, self._headers)
        wanted = revision or "main"
        info = _info(self._client, endpoint, uri.container, wanted, bool(self._token))
        commit = info.get("sha")
        if not isinstance(commit, str) or not commit.isalnum():
            raise origin.bad(f"{endpoint} gives no commit for revision {wanted}.", "Check HF_ENDPOINT.")
        self._base = f"{endpoint}/{uri.container}/resolve/{commit}/"
        super().__init__(uri, commit, _entries(info), origin, settings)

    def open_range(self, path: str, start: int, stop: int | None) -> AbstractContextManager[Body]:
        """Through the resolve URL, which redirects to where large files are."""
        return open_range(self._client, self._base + quote(path), path, start, stop)

    def download(self, path: str, destination: Path, advance: Callable[[int], None]) -> None:
        """huggingface_hub's http_get, which resumes within one run; the partial file makes it resume between runs."""
        entry = self.entry(path)
        if size_of(destination) > entry.size:
            destination.unlink()
        session = _HubSession(self._origin, self._base + quote(path), self._headers, advance)
        retry(lambda: session.get(entry, destination), self._origin, self._settings, lambda: size_of(destination))


class _HubSession:
    """One file through huggingface_hub, its errors in our words."""

    def __init__(self, origin: Origin, url: str, headers: dict[str, str], advance: Callable[[int], None]) -> None:
        self._origin, self._url, self._headers, self._advance = origin, url, headers, advance
        self._reported = 0
        _prepare_library()

    def get(self, entry: FileEntry, destination: Path) -> None:
        """Append what is missing to `destination`. TransientError for what may pass."""
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.file_download import http_get

        held = size_of(destination)
        self._report(held)
        try:
            with destination.open("ab") as file:
                http_get(
                    self._url,
                    file,
                    resume_size=held,
                    headers=self._headers,
                    expected_size=entry.size,
                    tqdm_class=_bar(self._report_more),
                )
            self._report(entry.size)
        except HfHubHTTPError as error:
            status = error.response.status_code
            wait = retry_after(error.response.headers)
            raise self._origin.from_status(status, f"file {entry.path}", wait) from None
        except OSError as error:
            if error.errno is None and "Consistency check" in str(error):
                raise self._short(entry, destination) from None
            raise
        except Exception as error:
            # The library's HTTP client differs between its releases (httpx, httpx2): known by name, not by class.
            if not any(kind.__name__ == "TransportError" for kind in type(error).__mro__):
                raise
            raise TransientError(str(error) or type(error).__name__) from error

    def _short(self, entry: FileEntry, destination: Path) -> SourceError | TransientError:
        size = size_of(destination)
        if size > entry.size:
            return self._origin.damaged(entry.path, f"it is longer than the {entry.size} bytes listed")
        return TransientError(f"{entry.path} ended after {size} of {entry.size} bytes")

    def _report(self, total: int) -> None:
        self._advance(total - self._reported)
        self._reported = total

    def _report_more(self, count: int) -> None:
        self._report(self._reported + count)


def _bar(advance: Callable[[int], None]) -> Any:
    """What http_get takes for tqdm: every count goes to our own progress."""

    class Bar:
        def __init__(self, *_: object, **__: object) -> None: ...
        def update(self, count: float = 1) -> None:
            advance(int(count))

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

    return Bar


@cache
def _prepare_library() -> None:
    """Give huggingface_hub's HTTP client our trusted certificates; once, because it closes the client in use."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    from llmservice_runtime.sources.tls import trust

    def client() -> Any:
        with default_client_factory() as plain:
            return type(plain)(event_hooks=plain.event_hooks, follow_redirects=True, timeout=None, verify=trust())

    set_client_factory(client)


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
