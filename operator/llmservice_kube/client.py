"""A small typed client of the API server: what the operator needs, over aiohttp.

Every request is bounded in time and repeated while repeating can help: all of them are idempotent (reads, server-side
apply, deletes that carry a uid, creates under a fixed name). Writes pass a fence first: leadership.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from pydantic_core import from_json, to_json

from llmservice_kube.answers import answer, event, is_json
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import Json, Kind, kind_of
from llmservice_kube.login import Access
from llmservice_kube.sockets import Sockets

MANAGER = "llmservice-operator"
"""Field manager of everything but status."""
STATUS_MANAGER = "llmservice-operator-status"
SCALE_MANAGER = "llmservice-operator-scale"
PAGE = 500
"""Objects per page of a list."""
PAGE_BYTES = 2 << 20
"""Of a page; one that is larger is asked for with fewer objects. Parsed it may take forty times as much."""
CONNECTIONS = 64
"""Requests that are under way at a time."""
REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 5.0
BACKOFFS = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each repetition, half of it at random; after the last the error is the caller's."""
LONGEST_WAIT = 60.0
"""Seconds: the longest Retry-After that is waited for here; a longer one goes to the caller."""

_APPLY = "application/apply-patch+yaml"
_JSON = "application/json"
_HEADERS = {"Accept": _JSON, "User-Agent": MANAGER, "Accept-Encoding": "identity"}
"""Of every request. Near the server, packing its lists costs both sides more than sending them."""
_CONDITIONS = frozenset(("resourceVersion", "uid"))
"""Metadata that makes a conflict final: sent again it would be one again."""
_BODIES = {"apply": _APPLY, "apply_status": _APPLY, "patch": "application/merge-patch+json"}
_SILENT_SECONDS = 15.0
"""A watch that ought to have ended so long ago has a connection that leads nowhere."""
_SMALL = 1 << 18
"""Bytes of an answer that is read on the spot."""
_LARGE = "PageTooLarge"
_SCALE = {"apiVersion": "autoscaling/v1", "kind": "Scale"}


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of a list, read page by page, and the resource version it holds for."""

    items: list[Json]
    resource_version: str


Begin = Callable[[str], Callable[[Json], object]]
"""Gets the resourceVersion of a list, gives what its objects are handed to."""


def always() -> None:
    """The fence of a client that needs no leadership."""


class Client:
    """One session with the API server. `counts` has the requests sent, by (verb, kind): repetitions count too."""

    def __init__(
        self,
        access: Access,
        *,
        fence: Callable[[], None] = always,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self._access = access
        self._fence = fence
        self._sleep = sleep
        self._session: aiohttp.ClientSession | None = None
        self._sockets = Sockets()
        self.counts: Counter[tuple[str, str]] = Counter()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._access.ssl_context(), limit=CONNECTIONS, socket_factory=self._sockets.make
            ),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is None:
            return
        await self._session.close()
        await self._sockets.gone()

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """The object as it is now, or None."""
        try:
            return await self.send("get", kind, kind.path(namespace, name))
        except ApiError as error:
            if error.missing:
                return None
            raise

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = PAGE,
        begin: Begin | None = None,
    ) -> Listing:
        """Every object of a kind (in all namespaces when None) by label and field selector.

        With `begin` objects are not in what is returned: no more than a page is in memory. It is called with the
        list's version as the list begins, also when it begins anew because a page expired, and gives what takes each
        object from then on.
        """
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = {name: value for name, value in selectors.items() if value}
        for _ in range(3):
            try:
                return await self._pages(kind, namespace, query, limit, begin)
            except ApiError as error:
                if not error.expired:
                    raise
        return await self._pages(kind, namespace, query, 0, begin)

    async def apply(
        self,
        obj: Mapping[str, Any],
        *,
        new: bool = False,
        uid: str = "",
        dry_run: bool = False,
        manager: str = MANAGER,
    ) -> Json:
        """Server-side apply of the fields we own, by force.

        With `new` only where there is no such object, with `uid` only onto that very object: raises a conflict (or
        Invalid, for another uid) otherwise. Looking first and applying then would take over what came in between.
        """
        query = {"fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        # No object has had this version for long, and what is not there has none to compare.
        condition = {"resourceVersion": "1"} if new else {"uid": uid} if uid else {}
        return await self._write("apply", {**obj, "metadata": {**obj["metadata"], **condition}}, "", query)

    async def apply_status(self, obj: Mapping[str, Any]) -> Json:
        """Server-side apply of the status subresource, under a manager of its own."""
        return await self._write("apply_status", obj, "status", {"fieldManager": STATUS_MANAGER, "force": "true"})

    async def create(self, obj: Mapping[str, Any]) -> Json | None:
        """Create under the object's own name; None when there is one of that name already."""
        kind, metadata = kind_of(obj), obj["metadata"]
        self._fence()
        query = {"fieldManager": MANAGER}
        try:
            return await self.send("create", kind, kind.path(metadata.get("namespace")), query, obj)
        except ApiError as error:
            if error.conflict:
                return None
            raise

    async def scale(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """The object's Scale, or None: `spec.replicas` is what is asked for, `status.replicas` what is there."""
        try:
            return await self.send("get", kind, kind.path(namespace, name, "scale"))
        except ApiError as error:
            if error.missing:
                return None
            raise

    async def rescale(self, kind: Kind, namespace: str | None, name: str, uid: str, replicas: int) -> Json | None:
        """Ask the object of this uid for so many replicas, and change nothing else of it; its Scale as it is then.

        None when there is no such object, or another one of its name. A replace, since the server has no apply for the
        Scale of a custom resource and looks at no uid in a patch. Who asked is in managedFields (SCALE_MANAGER) only
        until the first 0: the server leaves a zero out of a Scale, and from then on the field has no owner.
        """
        self._fence()
        metadata = {"name": name, "namespace": namespace or "", "uid": uid}
        scale = {**_SCALE, "metadata": metadata, "spec": {"replicas": replicas}}
        path = kind.path(namespace, name, "scale")
        try:
            return await self.send("scale", kind, path, {"fieldManager": SCALE_MANAGER}, scale)
        except ApiError as error:
            if error.missing or error.conflict:
                return None
            raise

    async def merge(self, obj: Mapping[str, Any], fields: Mapping[str, Any]) -> Json:
        """Change these fields of the object of this name, and no others (JSON merge patch)."""
        kind, metadata = kind_of(obj), obj["metadata"]
        self._fence()
        path = kind.path(metadata.get("namespace"), metadata["name"])
        return await self.send("patch", kind, path, {"fieldManager": MANAGER}, fields)

    async def replace(self, obj: Mapping[str, Any]) -> Json | None:
        """Replace the object of this resourceVersion; None when it was changed since, or is gone."""
        try:
            return await self._write("replace", obj, "", {"fieldManager": MANAGER})
        except ApiError as error:
            if error.conflict or error.missing:
                return None
            raise

    async def delete(self, kind: Kind, namespace: str | None, name: str, uid: str) -> bool:
        """Delete the object of this uid, dependents in the background. False when it is gone or another one."""
        self._fence()
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self.send("delete", kind, kind.path(namespace, name), body=options)
        except ApiError as error:
            if error.missing or error.conflict:
                return False
            raise
        return True

    async def watch(
        self,
        kind: Kind,
        namespace: str | None,
        labels: str,
        version: str,
        seconds: int,
        begun: Callable[[], None],
        fields: str = "",
    ) -> AsyncGenerator[tuple[str, Json]]:
        """(type, object) of what happens to a kind from `version` on, bookmarks too, for at most `seconds`.

        Without a version first what is there, as ADDED. `begun` is called once the server has begun to answer. Raises
        ApiError when it refuses or breaks off; it is not repeated.
        """
        what = f"watch {kind.path(namespace)}"
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        asked = {"labelSelector": labels, "fieldSelector": fields, "resourceVersion": version}
        query |= {name: value for name, value in asked.items() if value}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=seconds + _SILENT_SECONDS)
        assert self._session is not None, "use the client as a context manager"
        self.counts["watch", kind.kind] += 1
        authorization = await self._access.authorization()
        headers = {"Authorization": authorization} if authorization else {}
        url = self._access.server + kind.path(namespace)
        try:
            async with self._session.get(url, params=query, headers=headers, timeout=timeout) as response:
                if response.status >= 400:
                    raise _refusal(what, response, await response.read())
                begun()
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield _happened(what, line)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(what, 0, type(error).__name__, str(error) or "timed out") from error

    async def _write(self, verb: str, obj: Mapping[str, Any], subresource: str, query: dict[str, str]) -> Json:
        kind, metadata = kind_of(obj), obj["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"], subresource)
        self._fence()
        return await self.send(verb, kind, path, query, obj)

    async def _pages(
        self,
        kind: Kind,
        namespace: str | None,
        selectors: Mapping[str, str],
        limit: int,
        begin: Begin | None,
    ) -> Listing:
        items: list[Json] = []
        query = dict(selectors)
        take: Callable[[Json], object] | None = None if begin else items.append
        now = limit
        while True:
            query["limit"] = str(now)
            try:
                page = await self.send("list", kind, kind.path(namespace), query)
            except ApiError as error:
                if error.reason != _LARGE:
                    raise
                now = max(1, now // 8)
                continue
            now = min(limit, 2 * now)
            version = page["metadata"]["resourceVersion"]
            if take is None:
                assert begin is not None
                take = begin(version)
            # Items of a list carry neither field; with them every object says what it is.
            for item in page["items"] or ():
                take({"apiVersion": kind.api_version, "kind": kind.kind, **item})
            if not (rest := page["metadata"].get("continue")):
                return Listing(items, version)
            query["continue"] = rest

    async def send(
        self,
        verb: str,
        kind: Kind,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Json:
        """One request of any verb, repeated while that can help: also a write whose answer was lost.

        `verb` is get, list, apply, apply_status, create, replace, patch (JSON merge patch), scale (a replace) or
        delete. No fence.
        """
        unconditional = _CONDITIONS.isdisjoint((body or {}).get("metadata", ()))
        for pause in (*BACKOFFS, None):
            self.counts[verb, kind.kind] += 1
            try:
                return await self._once(verb, path, query, body)
            except ApiError as error:
                again = error.passing or (error.conflict and unconditional and verb in ("apply", "apply_status"))
                if pause is None or not again or (error.retry_after or 0) > LONGEST_WAIT:
                    raise
                wait = error.retry_after if error.retry_after is not None else pause * random.uniform(0.5, 1.0)
            await self._sleep(wait)
            if verb not in ("get", "list"):
                self._fence()
        raise AssertionError("the last repetition raises")

    async def _once(
        self, verb: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> Json:
        assert self._session is not None, "use the client as a context manager"
        what = f"{verb} {path}"
        headers = {}
        if authorization := await self._access.authorization():
            headers["Authorization"] = authorization
        if body is not None:
            headers["Content-Type"] = _BODIES.get(verb, _JSON)
        data = to_json(body) if body is not None else None
        url = self._access.server + path
        try:
            async with self._session.request(_METHODS[verb], url, params=query, data=data, headers=headers) as response:
                data = await _body(what, response, verb == "list" and int((query or {}).get("limit", 0)) > 1)
                if response.status >= 400:
                    raise _refusal(what, response, data)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(what, 0, type(error).__name__, str(error) or "timed out") from error
        try:
            return answer(data) if len(data) <= _SMALL else await asyncio.to_thread(answer, data)
        except ValueError as error:
            # An object that can't be parsed now can't be the next time; what is no JSON at all is of something else.
            status = response.status if is_json(data) else 0
            raise ApiError(what, status, "Unreadable", f"the answer can't be parsed: {error}") from error


_METHODS = {
    "get": "GET",
    "list": "GET",
    "apply": "PATCH",
    "patch": "PATCH",
    "scale": "PUT",
    "apply_status": "PATCH",
    "create": "POST",
    "replace": "PUT",
    "delete": "DELETE",
}
WRITES = ("apply", "apply_status", "create", "patch", "scale", "replace", "delete")


async def _body(what: str, response: aiohttp.ClientResponse, page: bool) -> bytes:
    """All of an answer. Raises ApiError for a page of several objects as soon as it is too large to be read whole."""
    if not page or response.status >= 400:
        return await response.read()
    found = bytearray()
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > PAGE_BYTES:
            response.close()
            raise ApiError(what, response.status, _LARGE, f"more than {PAGE_BYTES} bytes")
    return bytes(found)


def _happened(what: str, line: bytes) -> tuple[str, Json]:
    """A line of a watch. Raises ApiError for what the server says went wrong, ValueError for what is no event."""
    found = from_json(event(line))
    if not isinstance(found, dict) or not isinstance(obj := found.get("object"), dict):
        raise ValueError("a line of the watch is no event")
    if found.get("type") == "ERROR":
        raise ApiError(what, int(obj.get("code") or 500), str(obj.get("reason")), str(obj.get("message")))
    return str(found.get("type")), obj


def _refusal(what: str, response: aiohttp.ClientResponse, data: bytes) -> ApiError:
    """The server's Status object as an error; a proxy's plain text when it is none."""
    try:
        status = from_json(data)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        status = {"message": data[:300].decode(errors="replace")}
    asked = response.headers.get("Retry-After", "")
    return ApiError(
        what,
        response.status,
        status.get("reason") or response.reason or "Error",
        " ".join(str(status.get("message") or "").split()),  # policies answer in several lines
        float(asked) if asked.isdigit() else None,
    )
