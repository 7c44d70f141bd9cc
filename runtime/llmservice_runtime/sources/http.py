"""HTTP for model sources: guarded redirects, byte ranges, errors in the user's words."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

import httpx

from llmservice_runtime.sources.errors import Origin, SourceError, TransientError
from llmservice_runtime.sources.guard import WAY_OUT, AddressRefusedError, check_address, check_url
from llmservice_runtime.sources.remote import Body
from llmservice_runtime.sources.retry import retry
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.tls import trust

T = TypeVar("T")
MAX_REDIRECTS = 10
CONNECT_SECONDS = 10.0
CHUNK_BYTES = 1 << 17
JSON_LIMIT_BYTES = 64 << 20
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class HttpClient:
    """A connection pool of one source. Proxies come from the environment, certificates from `tls.trust`.

    `headers` (with credentials) go to the first host only: a redirect to another origin gets none of them.
    """

    def __init__(self, origin: Origin, settings: SourceSettings, headers: Mapping[str, str] | None = None) -> None:
        self.origin = origin
        self.settings = settings
        self._headers = dict(headers or {})
        timeout = httpx.Timeout(settings.timeout_seconds, connect=min(CONNECT_SECONDS, settings.timeout_seconds))
        self._proxied = bool(getproxies())
        self._client = httpx.Client(verify=trust(), timeout=timeout, follow_redirects=False)
        # A source lives as long as somebody holds it; there is no moment at which its owner would close it.
        weakref.finalize(self, self._client.close)

    def call(self, method: str, url: str, read: Callable[[httpx.Response], T], what: str) -> T:
        """One retried request; `read` gets the response with its body still to come, status below 400.

        `what` names the thing for a 404. SourceError for everything that retrying does not mend.
        """

        def once() -> T:
            with self.send(method, url) as response:
                if response.status_code >= 400:
                    raise self.origin.from_status(response.status_code, what, retry_after(response.headers))
                return read(response)

        return retry(once, self.origin, self.settings)

    def json(self, url: str, what: str) -> Any:
        """A JSON document of at most 64 MiB."""

        return self.call("GET", url, lambda response: read_json(self.origin, response, what), what)

    @contextmanager
    def send(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """One attempt, redirects followed; TransientError for what may pass. Any status is the caller's business."""
        try:
            response = self._follow(method, url, {"Accept-Encoding": "identity", **self._headers, **(headers or {})})
            try:
                yield response
            finally:
                response.close()
        except AddressRefusedError as error:
            raise self.origin.bad(f"{error}, which may not be read.", WAY_OUT) from None
        except httpx.TransportError as error:
            raise self._transport(error) from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise self.origin.bad(f"{self.origin.hub} answers nonsense ({error}).", "Check the endpoint.") from error

    def _follow(self, method: str, url: str, headers: dict[str, str]) -> httpx.Response:
        try:
            return self._hops(method, url, headers)
        except ValueError as error:  # of whatever takes an address apart that is none
            raise httpx.InvalidURL(str(error)) from error

    def _hops(self, method: str, url: str, headers: dict[str, str]) -> httpx.Response:
        origin = _origin(url)
        for _ in range(MAX_REDIRECTS + 1):
            check_url(url, self.settings.allow_private)
            response = self._client.send(self._client.build_request(method, url, headers=headers), stream=True)
            try:
                self._check_peer(response, url)
                location = response.headers.get("location")
                if response.status_code not in REDIRECTS or not location:
                    return response
            except BaseException:
                response.close()
                raise
            response.close()
            url = urljoin(url, location)
            if _origin(url) != origin:
                headers = {k: v for k, v in headers.items() if k.lower() not in ("authorization", "cookie")}
        raise self.origin.bad(f"{self.origin.hub} redirects more than {MAX_REDIRECTS} times.", "Check the URI.")

    def _check_peer(self, response: httpx.Response, url: str) -> None:
        """The address really connected to: a name may resolve differently the second time."""
        stream = response.extensions.get("network_stream")
        peer = stream.get_extra_info("server_addr") if stream is not None else None
        if peer and not self._proxied:  # else the peer is the proxy
            check_address(str(peer[0]), self.settings.allow_private, urlsplit(url).hostname or "")

    def _transport(self, error: httpx.TransportError) -> SourceError | TransientError:
        text = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return self.origin.untrusted(
                text.partition("certificate verify failed:")[2].strip(" ()") or "verify failed"
            )
        if "Invalid URL" in text:  # of a redirect: httpx looks at it before we do
            return self.origin.bad(f"{self.origin.hub} answers nonsense ({text}).", "Check the endpoint.")
        if isinstance(error, httpx.UnsupportedProtocol):
            return self.origin.bad(f"{self.origin.hub} redirects to something that is not HTTP.", "Check the URI.")
        return TransientError(_plain(error, text))


def _plain(error: httpx.TransportError, text: str) -> str:
    kind = {
        httpx.ConnectTimeout: "no connection in time",
        httpx.ReadTimeout: "no answer in time",
        httpx.ProxyError: "the proxy refuses",
        httpx.RemoteProtocolError: "the connection was cut",
    }.get(type(error))
    return f"{kind} ({text})" if kind else text


@contextmanager
def open_range(client: HttpClient, url: str, path: str, start: int, stop: int | None, etag: str = "") -> Iterator[Body]:
    """The body of a file from `start` (to before `stop`); the answer may begin at 0 when ranges are not known there.

    With an `etag` that the file had when it was listed, another one now is an error: revisions are never mixed.
    """
    with client.send("GET", url, range_header(start, stop)) as response:
        if etag and response.status_code < 400 and response.headers.get("etag", etag) != etag:
            raise client.origin.damaged(path, "it was replaced at the source since it was listed")
        yield body_from(client.origin, response, path, start)


def range_header(start: int, stop: int | None) -> dict[str, str]:
    """Asks for bytes from `start` to before `stop` (None = the end); nothing is asked for when that is all."""
    if start == 0 and stop is None:
        return {}
    return {"Range": f"bytes={start}-" + ("" if stop is None else str(stop - 1))}


def body_from(origin: Origin, response: httpx.Response, path: str, start: int) -> Body:
    """What came of a request for bytes from `start`: they, or the whole file where ranges are not known."""
    if response.status_code == 416:
        return Body(start, iter(()))
    if response.status_code >= 400:
        raise origin.from_status(response.status_code, f"file {path}", retry_after(response.headers))
    offset = 0
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        offset = int(match[1]) if match else -1
        if offset != start:
            raise origin.damaged(path, f"asked for bytes from {start}, the server sent others")
    return Body(offset, response.iter_bytes(CHUNK_BYTES))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for, as number or date; None without one."""
    value = headers.get("retry-after", headers.get("Retry-After", "")).strip()
    if value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def read_json(origin: Origin, response: httpx.Response, what: str) -> Any:
    """The response's JSON, at most 64 MiB of it; SourceError when it is something else (a login page)."""
    try:
        return json.loads(_bounded(response, JSON_LIMIT_BYTES))
    except (ValueError, RecursionError):
        kind = response.headers.get("content-type", "no content type")
        raise origin.bad(
            f"{origin.hub} answers with {kind} instead of JSON for {what}.",
            "Check the endpoint: it may be a login page, or a mirror that does not speak this hub's API.",
        ) from None


def _bounded(response: httpx.Response, limit: int) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > limit:
            raise ValueError("too long")
    return bytes(body)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
