"""An API server in this process, for faults that a real one cannot be made to show on demand.

It keeps objects, resource versions, pages, watches with history and compaction, and a server-side apply that knows
whole-object merges and ownership by top-level field. For the truth about semantics there is the real server.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from kubernetes.aio.client import Configuration

from llmservice_kube.kinds import ENDPOINT_SLICE, EVENT, LEASE, LLM_SERVICE, NODE, OWNED, POD_MONITOR, Json, Kind
from llmservice_kube.login import Access

KINDS = (LLM_SERVICE, *OWNED, EVENT, LEASE, NODE, POD_MONITOR, ENDPOINT_SLICE)
Fault = Callable[[str, str], web.StreamResponse | None]
"""Gets (method, path); what it returns is answered instead."""


def refusal(
    status: int, reason: str = "Broken", headers: dict[str, str] | None = None, message: str = ""
) -> web.Response:
    said = message or f"made {status}"
    body = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": said}
    return web.json_response(body, status=status, headers=headers)


class FakeApi:
    """State and faults. `requests` has (method, path) of everything that came in."""

    def __init__(self) -> None:
        self.objects: dict[tuple[Kind, str, str], Json] = {}
        self.history: list[tuple[int, str, Kind, Json]] = []
        self.lists: list[list[Json]] = []
        """What each list had when it began."""
        self.version = 100
        self.compacted = 0
        self.requests: list[tuple[str, str]] = []
        self.fault: Fault = lambda method, path: None
        self.after_write: Callable[[str, str], None] = lambda method, path: None
        self.after_read: Callable[[str, str], None] = lambda method, path: None
        """Called when a list was read and before it is answered."""
        self.mute_watches = False
        """True: watches bring nothing (a half-open connection)."""
        self.watchers: set[asyncio.Event] = set()
        self.stream_error: Json | None = None
        """Sent once as an ERROR event by the next watch that has something to say."""
        self._hang_up = asyncio.Event()
        self.base = ""

    @property
    def access(self) -> Access:
        configuration = Configuration()
        configuration.host = self.base
        return Access(configuration)

    def put(self, obj: Json, kind: Kind = LLM_SERVICE) -> Json:
        """Create or replace, as somebody else would."""
        key = kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
        old = self.objects.get(key)
        self.version += 1
        metadata = {
            "uid": old["metadata"]["uid"] if old else str(uuid.uuid4()),
            **obj["metadata"],
            "generation": _generation(old, obj),
            "resourceVersion": str(self.version),
        }
        full = {**obj, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        self.objects[key] = full
        self._record("MODIFIED" if old else "ADDED", kind, full)
        return full

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete, as somebody else would."""
        obj = self.objects.pop((kind, namespace, name))
        self.version += 1
        self._record("DELETED", kind, {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}})

    def hang_up(self) -> None:
        """Close every open watch."""
        self._hang_up.set()
        self._hang_up = asyncio.Event()

    def compact(self) -> None:
        """Forget the history: watches from before get 410."""
        self.compacted = self.version
        self.history.clear()

    def _record(self, event: str, kind: Kind, obj: Json) -> None:
        self.history.append((self.version, event, kind, obj))
        for bell in self.watchers:
            bell.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if (broken := self.fault(request.method, request.path)) is not None:
            return broken
        if (found := _discovery(request.path)) is not None:
            return web.json_response(found)
        kind, namespace, name, subresource = _parse(request.path)
        if request.method == "GET" and name is None:
            if request.query.get("watch"):
                return await self._watch(request, kind, namespace)
            answer = self._list(request, kind, namespace)
            self.after_read(request.method, request.path)
            return answer
        answer = await self._single(request, kind, namespace or "", name, subresource)
        if request.method != "GET":
            self.after_write(request.method, request.path)
        return answer

    async def _single(
        self, request: web.Request, kind: Kind, namespace: str, name: str | None, subresource: str
    ) -> web.Response:
        body = json.loads(await request.read() or b"{}")
        name = name or body["metadata"]["name"]
        old = self.objects.get((kind, namespace, name))
        if request.method == "POST":
            return refusal(409, "AlreadyExists") if old else web.json_response(self.put(body, kind))
        if request.content_type == "application/merge-patch+json":
            return web.json_response(self.put({**old, **body}, kind)) if old else refusal(404, "NotFound")
        if request.method == "PATCH":
            return self._apply(request, kind, old, body, subresource)
        if old is None:
            return refusal(404, "NotFound")
        if request.method == "PUT":
            same = body["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"]
            return web.json_response(self.put(body, kind)) if same else refusal(409, "Conflict")
        if request.method == "DELETE":
            if body.get("preconditions", {}).get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
                return refusal(409, "Conflict")
            self.remove(kind, namespace, name)
            return web.json_response({"kind": "Status", "status": "Success"})
        return web.json_response(old)

    def _apply(self, request: web.Request, kind: Kind, old: Json | None, body: Json, subresource: str) -> web.Response:
        if subresource and old is None:
            return refusal(404, "NotFound")
        asked = dict(body["metadata"])
        if (version := asked.pop("resourceVersion", None)) and old and old["metadata"]["resourceVersion"] != version:
            return refusal(409, "Conflict")
        if (uid := asked.get("uid")) and (old or {"metadata": {}})["metadata"].get("uid") != uid:
            return refusal(422 if old else 409, "Invalid" if old else "Conflict")
        body = {**body, "metadata": asked}
        merged = {**(old or {}), **{k: v for k, v in body.items() if k not in ("metadata", "status") or subresource}}
        manager = request.query["fieldManager"]
        fields = {"manager": manager, "operation": "Apply", "subresource": subresource, "fieldsV1": _fields(body)}
        meta = {**(old or {}).get("metadata", {}), **({} if subresource else body["metadata"])}
        others = [e for e in meta.get("managedFields", []) if e["manager"] != manager]
        merged["metadata"] = {**meta, "managedFields": [*others, fields]}
        if old is not None and _same(old, merged):
            return web.json_response(old)
        return web.json_response(self.put(merged, kind))

    def _list(self, request: web.Request, kind: Kind, namespace: str | None) -> web.Response:
        after = request.query.get("continue") or ""
        start, version, number = map(int, after.split(":")) if after else (0, self.version, len(self.lists))
        if version < self.compacted:
            return refusal(410, "Expired")
        if not after:
            self.lists.append(sorted(self._matching(request, kind, namespace), key=_name))
        items = self.lists[number]  # later pages are as old as the first
        limit = int(request.query.get("limit", "0")) or len(items)
        page, rest = items[start : start + limit], items[start + limit :]
        meta: Json = {"resourceVersion": str(version)}
        if rest:
            meta["continue"] = f"{start + limit}:{version}:{number}"
        plain = [{k: v for k, v in obj.items() if k not in ("apiVersion", "kind")} for obj in page]
        return web.json_response(
            {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta, "items": plain}
        )

    def _matching(self, request: web.Request, kind: Kind, namespace: str | None) -> list[Json]:
        wanted = request.query.get("labelSelector", "")
        return [
            obj
            for (at, where, _), obj in self.objects.items()
            if at == kind and namespace in (None, where) and _selected(obj, wanted)
        ]

    async def _watch(self, request: web.Request, kind: Kind, namespace: str | None) -> web.StreamResponse:
        since = int(request.query.get("resourceVersion", "0"))
        response = web.StreamResponse()
        await response.prepare(request)
        if not since:
            since = self.version
            for obj in list(self._matching(request, kind, namespace)):
                await _send(response, "ADDED", obj)
        bell, gone = asyncio.Event(), self._hang_up
        self.watchers.add(bell)
        try:
            if since < self.compacted:
                await _send(response, "ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
                return response
            while not gone.is_set():
                news = [entry for entry in self.history if entry[0] > since and entry[2] == kind]
                since = max([since, *(entry[0] for entry in news)])
                if news and self.stream_error is not None:
                    error, self.stream_error = self.stream_error, None
                    await _send(response, "ERROR", error)
                    return response
                for _, event, _, obj in [] if self.mute_watches else news:
                    if namespace in (None, obj["metadata"].get("namespace")):
                        await _send(response, event, obj)
                bell.clear()
                waiting = [asyncio.ensure_future(bell.wait()), asyncio.ensure_future(gone.wait())]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in waiting:
                    task.cancel()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.watchers.discard(bell)
        return response


@asynccontextmanager
async def fake_api() -> AsyncIterator[FakeApi]:
    """A server on a free port of this machine."""
    api = FakeApi()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", api.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        api.hang_up()
        await runner.cleanup()


async def _send(response: web.StreamResponse, event: str, obj: Json) -> None:
    await response.write(json.dumps({"type": event, "object": obj}).encode() + b"\n")


def _generation(old: Json | None, new: Json) -> int:
    before: int = old["metadata"]["generation"] if old else 0
    return before + (old is None or old.get("spec") != new.get("spec"))


def _name(obj: Json) -> str:
    return str(obj["metadata"]["name"])


def _same(old: Json, new: Json) -> bool:
    return all(old.get(k) == v for k, v in new.items() if k != "metadata") and {
        k: v for k, v in old["metadata"].items() if k != "resourceVersion"
    } == {k: v for k, v in new["metadata"].items() if k != "resourceVersion"}


def _fields(body: Any) -> Json:
    """Field set of an applied object, with lists taken as atomic."""
    skip = ("apiVersion", "kind", "name", "namespace")
    return {f"f:{k}": _fields(v) if isinstance(v, dict) else {} for k, v in body.items() if k not in skip}


def _selected(obj: Json, selector: str) -> bool:
    labels = obj["metadata"].get("labels", {})
    parts = (part.partition("=") for part in selector.split(",") if part)
    return all(labels.get(name) == value if equals else name in labels for name, equals, value in parts)


def _parse(path: str) -> tuple[Kind, str | None, str | None, str]:
    parts = path.strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    (kind,) = (k for k in KINDS if (k.group, k.version, k.plural) == (group, version, rest[0]))
    name, subresource = [*rest[1:], None, ""][:2] if len(rest) < 3 else rest[1:3]
    return kind, namespace, name, subresource or ""


def _discovery(path: str) -> Json | None:
    groups = sorted({(kind.group, kind.version) for kind in KINDS if kind.group} | {("apiextensions.k8s.io", "v1")})
    if path == "/version":
        return {"major": "1", "minor": "34"}
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        return {
            "groups": [{"name": g, "versions": [{"version": v}], "preferredVersion": {"version": v}} for g, v in groups]
        }
    parts = path.strip("/").split("/")
    if path == "/api/v1" or (parts[0] == "apis" and len(parts) == 3):
        group = "" if path == "/api/v1" else parts[1]
        found = [kind for kind in KINDS if kind.group == group]
        resources = [_resource(kind.kind, kind.plural, kind.namespaced) for kind in found]
        if not group:
            resources.append(_resource("Namespace", "namespaces", False))
        if group == "apiextensions.k8s.io":
            resources.append(_resource("CustomResourceDefinition", "customresourcedefinitions", False))
        return {"resources": resources}
    return None


def _resource(kind: str, plural: str, namespaced: bool) -> Json:
    verbs = ["get", "list", "watch", "patch", "create", "delete"]
    return {"kind": kind, "name": plural, "singularName": kind.lower(), "namespaced": namespaced, "verbs": verbs}
