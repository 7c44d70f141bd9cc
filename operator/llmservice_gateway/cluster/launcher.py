"""Launches models for clients of a cluster's gateway: an LLMService is applied, and the operator does the rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from http import HTTPStatus

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.labels import LAUNCHED
from llmservice_api.model_words import told_apart
from llmservice_gateway.cluster.directory import Directory
from llmservice_gateway.cluster.services import backend
from llmservice_gateway.launching import errors
from llmservice_gateway.launching.launcher import Begun, Download, May
from llmservice_gateway.launching.standing import broken, passing
from llmservice_gateway.launching.wish import Json, Leave, Wish
from llmservice_kube.cache import Cache, Key
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError as Refused
from llmservice_kube.kinds import ENDPOINT_SLICE, LLM_SERVICE
from llmservice_runtime.wire.errors import ApiError, unavailable

MANAGER = "llmservice-gateway-launch"
"""Field manager of what clients launch."""

TOLD_SECONDS = 30.0
"""By then the watch has told of what was made, and what was left of one of its name has gone."""
LOOK_SECONDS = 0.05
GOES_SECONDS = 1
"""Between two looks whether what is being removed has gone."""
PREPARED = (ConditionType.MODEL_RESOLVED, ConditionType.PLANNED, ConditionType.CACHED)
"""Steps before there is a replica."""

log = logging.getLogger(__name__)


class ClusterLauncher:
    """`Launcher` with the rights of the gateway's own account. `cache` has the services that are watched, and
    `directory` makes the table of them."""

    def __init__(self, client: Client, cache: Cache, directory: Directory, leave: Leave) -> None:
        self.leave = leave
        self._client = client
        self._cache = cache
        self._directory = directory

    async def launch(self, wish: Wish, may: May) -> Begun:
        """Applied where there is no service of its name; what admission says is told as it is. Known by its uid."""
        name = wish.called
        service = f"{wish.namespace}/{name}"
        may(service)
        try:
            found = await self._standing(wish, name)
            if found is not None and not (_same(found, wish) or wish.name):
                name = told_apart(name, wish.uri, wish.quantization)
                service = f"{wish.namespace}/{name}"
                may(service)
                found = await self._standing(wish, name)
            if found is not None:
                if wish.again and _same(found, wish):
                    return Begun(service)
                raise errors.there_already(service, "model_uid")
            made = await self._client.apply(self._manifest(wish, name), new=True, manager=MANAGER)
        except Refused as refused:
            if not refused.conflict:
                raise _told(service, refused) from refused
            if not wish.again:
                raise errors.there_already(service, "model_uid") from refused
            await self._check_same(wish, service)
            return Begun(service)
        log.info("%s: launched for a client of %s", service, wish.by)
        await self._told_of(made)
        return Begun(service, made["metadata"]["uid"])

    async def give_up(self, begun: Begun) -> None:
        """Whatever else has its name by now stays."""
        namespace, _, name = begun.service.partition("/")
        await self._delete(namespace, name, begun.made)

    def download(self, service: str) -> Download | None:
        """While a Job fills its cache: that one tells nobody how many bytes it has."""
        status = (self._object(service) or {}).get("status") or {}
        total = (status.get("model") or {}).get("fileBytes", 0)
        ready: Json = next((one for one in status.get("conditions") or () if one["type"] == ConditionType.READY), {})
        return Download(None, total) if total and ready.get("reason") == Reason.DOWNLOADING else None

    def failure(self, service: str) -> ApiError | None:
        """What is wrong stands in its status."""
        return None

    def launched(self, service: str) -> bool:
        """By its label."""
        found = self._object(service) or {}
        return LAUNCHED in (found.get("metadata", {}).get("labels") or {})

    async def remove(self, service: str, *, files: bool) -> None:
        """What is its own goes with it; a cache that it shares stays."""
        if (found := self._object(service)) is None:
            return
        metadata = found["metadata"]
        await self._delete(metadata["namespace"], metadata["name"], metadata["uid"])

    async def _delete(self, namespace: str, name: str, uid: str) -> None:
        service = f"{namespace}/{name}"
        try:
            await self._client.delete(LLM_SERVICE, namespace, name, uid)
        except Refused as refused:
            raise _told(service, refused) from refused
        log.info("%s: removed for a client", service)

    async def _check_same(self, wish: Wish, service: str) -> None:
        """ApiError 503 where what came in between is of another model that is called alike: the next try sees it."""
        try:
            found = await self._now(*service.split("/"))
        except Refused as refused:
            raise _told(service, refused) from refused
        if found is None or not _same(found, wish):
            said = f"A service {service} was made for another model at the same time; retry."
            raise unavailable(said, "launches_busy", 1)

    async def _standing(self, wish: Wish, name: str) -> Json | None:
        """The service of this name that is in the way, or as good. One that a client launched before and that came to
        nothing gives way to another try of the same."""
        if self._object(f"{wish.namespace}/{name}") is None:
            return None
        found = await self._staying(wish.namespace, name)
        if found is None or not (wish.again and _same(found, wish) and came_to_nothing(found, time.time())):
            return found
        await self._delete(wish.namespace, name, found["metadata"]["uid"])
        return await self._staying(wish.namespace, name)

    async def _staying(self, namespace: str, name: str) -> Json | None:
        """The service as it is now; one that is being removed is waited for. ApiError 503 where that takes long."""
        clock = asyncio.get_running_loop().time
        end = clock() + TOLD_SECONDS
        while (found := await self._now(namespace, name)) is not None and "deletionTimestamp" in found["metadata"]:
            if clock() >= end:
                raise unavailable(f"{namespace}/{name} is still being removed; retry.", "being_removed", GOES_SECONDS)
            await asyncio.sleep(GOES_SECONDS)
        return found

    async def _now(self, namespace: str, name: str) -> Json | None:
        """The service as it is now: of one that was made or removed a moment ago the watch may not have told yet. By a
        list, which the gateway's account may."""
        listed = await self._client.list(LLM_SERVICE, namespace, fields=f"metadata.name={name}")
        return next((one for one in listed.items if one["metadata"]["name"] == name), None)

    async def _told_of(self, made: Json) -> None:
        """Until the next request finds it, and no replica of the one before is taken for its own."""
        key = made["metadata"]["namespace"], made["metadata"]["name"]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOLD_SECONDS):
                while not self._is_told(key, made):  # noqa: ASYNC110 - a cache has no events
                    await asyncio.sleep(LOOK_SECONDS)

    def _is_told(self, key: Key, made: Json) -> bool:
        began = made["metadata"].get("creationTimestamp", "")
        parts = self._cache.of(key)
        left = (part for part in parts if part["metadata"].get("creationTimestamp", began) < began)
        known = self._cache.uid(LLM_SERVICE, *key) == made["metadata"]["uid"]
        return known and self._directory.has_told(key) and not any(part["kind"] == ENDPOINT_SLICE.kind for part in left)

    def _object(self, service: str) -> Json | None:
        namespace, _, name = service.partition("/")
        return self._cache.get(LLM_SERVICE, namespace, name)

    def _manifest(self, wish: Wish, name: str) -> Json:
        """With the cache that the installation has for it."""
        made = wish.manifest(name)
        return {**made, "spec": {**made["spec"], "cache": self.leave.cache}} if self.leave.cache else made


def came_to_nothing(service: Json, now: float) -> bool:
    """Whether a client launched a service that could not be prepared, for a reason that does not go by itself. `now` is
    Unix time."""
    found, labels = backend(service), service["metadata"].get("labels") or {}
    why = found.unready.reason
    conditions = (service.get("status") or {}).get("conditions") or ()
    failed = any(one["type"] in PREPARED and (one["status"], one["reason"]) == ("False", why) for one in conditions)
    return LAUNCHED in labels and failed and broken(found) and not passing(found, now)


def _same(service: Json, wish: Wish) -> bool:
    return _model(service) == _model(wish.manifest())


def _model(service: Json) -> tuple[str, tuple[str, ...]]:
    model = service["spec"]["model"]
    return model["uri"], tuple(model.get("include") or ())


def _told(service: str, refused: Refused) -> ApiError:
    """The API server's words: field, value, reason and remedy are in them."""
    if refused.passing:
        return unavailable(f"The API server does not take {service} now: {refused.message}", "api_server", 10)
    status = refused.status if refused.status in (HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT) else HTTPStatus.BAD_REQUEST
    return ApiError(int(status), f"The cluster refused {service}: {refused.message}", code=refused.reason or "refused")
