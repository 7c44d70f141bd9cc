"""Downloading one file with huggingface_hub: its calls, its errors in our words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from llmservice_runtime.sources.errors import Origin, SourceError, TransientError
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.http import retry_after
from llmservice_runtime.sources.remote import size_of


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository at a commit."""

    endpoint: str
    repository: str
    commit: str
    path: str
    token: str | None = field(repr=False)

    @property
    def url(self) -> str:
        """The resolve URL, which redirects to where large files are."""
        return f"{self.endpoint}/{self.repository}/resolve/{self.commit}/{quote(self.path)}"

    @property
    def headers(self) -> dict[str, str]:
        """Authorization, when there is a token."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class HubSession:
    """One file through huggingface_hub, its errors in our words."""

    def __init__(self, origin: Origin, where: HubFile, advance: Callable[[int], None]) -> None:
        self._origin, self._where, self._advance = origin, where, advance
        self._reported = 0
        _prepare_library()

    def get(self, entry: FileEntry, destination: Path) -> None:
        """Append what is missing to `destination`. TransientError for what may pass."""
        from huggingface_hub import constants
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        held = size_of(destination)
        self._report(held)
        try:
            if held == 0 and entry.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
                self._whole(destination)
            else:
                self._rest(destination, held, entry.size)
            self._report(entry.size)
        except LocalEntryNotFoundError as error:
            raise TransientError("no answer from the hub") from error
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

    def _rest(self, destination: Path, held: int, size: int) -> None:
        """Everything after the bytes held."""
        from huggingface_hub.file_download import http_get

        with destination.open("ab") as file:
            http_get(
                self._where.url,
                file,
                resume_size=held,
                headers=self._where.headers,
                expected_size=size,
                tqdm_class=_bar(self._report_more),
            )

    def _whole(self, destination: Path) -> None:
        """A file beyond 50 GB, which the hub gives out by its chunk protocol only: not resumed in its middle."""
        from huggingface_hub import hf_hub_download

        where, scratch = self._where, destination.with_name(f".{destination.name}.hub")
        try:
            found = hf_hub_download(
                where.repository,
                where.path,
                revision=where.commit,
                endpoint=where.endpoint,
                token=where.token or False,
                local_dir=scratch,
                tqdm_class=_bar(self._report_more),
            )
            Path(found).replace(destination)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

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
