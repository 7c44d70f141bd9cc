"""Bodies and errors of hub libraries that speak through `requests` (modelscope, oras)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmservice_runtime.sources.errors import Origin, TransientError
from llmservice_runtime.sources.http import CHUNK_BYTES, retry_after
from llmservice_runtime.sources.remote import Body

if TYPE_CHECKING:
    import requests

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@contextmanager
def requests_errors() -> Iterator[None]:
    """Connection troubles of requests as TransientError."""
    import requests

    try:
        yield
    except requests.exceptions.SSLError as error:
        raise TransientError(f"TLS: {error}") from error
    except (
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        raise TransientError(f"{type(error).__name__}") from error


def body_of(response: requests.Response, origin: Origin, path: str, start: int) -> Body:
    """The body of a streamed response to a request for bytes from `start`."""
    if response.status_code == 416:
        return Body(start, iter(()))
    if response.status_code >= 400:
        raise origin.from_status(response.status_code, f"file {path}", retry_after(response.headers))
    offset = 0
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match is None or int(match[1]) != start:
            raise origin.damaged(path, f"asked for bytes from {start}, the server sent others")
        offset = start
    return Body(offset, response.iter_content(CHUNK_BYTES))
