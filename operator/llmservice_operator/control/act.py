"""Doing what the core decided: apply what differs, delete what still is what it was, one status, Events.

What the server refuses is not an error here: it is told to the core, which says it in status.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

from llmservice_kube.cache import Cache
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import CONTROLLER_REVISION, DEPLOYMENT, JOB, LLM_SERVICE, Json, Kind, kind_of
from llmservice_operator.control.diff import APPLIED, must_apply, stamped
from llmservice_operator.control.recorder import Recorder
from llmservice_operator.facts.values import NAME_CONFLICT, Delete, Outcome, Refused

_LATE = (JOB, CONTROLLER_REVISION, DEPLOYMENT)
"""Kinds that need what is applied before them; the others need nothing, and wait for nothing."""
AGAIN_SECONDS = 600.0
"""What is wrong in itself is sent again when it was changed, or after so long: a policy may have been changed."""
T = TypeVar("T")
Refusals = dict[tuple[str, str], Refused]
"""By (kind, name) of the object that was refused."""


@dataclass(frozen=True, slots=True)
class _Final:
    """A refusal of what is wrong in itself. `sent` is (uid of the live object, digest of what was sent)."""

    sent: tuple[str, str]
    refused: Refused
    until: float


@dataclass(slots=True)
class Actor:
    """Writes for one operator."""

    client: Client
    cache: Cache
    recorder: Recorder
    refused: dict[str, Refusals] = field(default_factory=dict)
    """By uid of the service: writes that were refused and did not succeed since."""
    clock: Callable[[], float] = time.monotonic
    _final: dict[str, dict[tuple[str, str], _Final]] = field(default_factory=dict)
    """By uid of the service, then (kind, name): those of the refused writes that are no use to repeat."""
    _as_wanted: dict[str, dict[tuple[str, str], tuple[int | None, str]]] = field(default_factory=dict)
    """By uid of the service, then (kind, name): the version and the digest that were found to need no write."""

    async def children(self, service: Json, outcome: Outcome) -> bool:
        """Apply and delete. True when something was written, or refused in another way than before: decide again."""
        early = [desired for desired in outcome.apply if kind_of(desired) not in _LATE]
        results = await _together(self._apply(service, desired) for desired in early)
        for desired in outcome.apply:
            if kind_of(desired) in _LATE:
                results.append(await self._apply(service, desired))
        refused = {(result.kind, result.name): result for result in results if isinstance(result, Refused)}
        wrote = True in results
        for delete in outcome.delete:
            wrote |= await self._delete(service, delete)
        return self._remember(service["metadata"]["uid"], refused) or wrote

    async def report(self, service: Json, outcome: Outcome) -> None:
        """Write the status when it says something new, then the Events. Transitions only: no status, no Events."""
        if outcome.status is not None and outcome.status != service.get("status"):
            metadata = service["metadata"]
            written = await self.client.apply_status(
                {
                    "apiVersion": service["apiVersion"],
                    "kind": service["kind"],
                    "metadata": {name: metadata[name] for name in ("name", "namespace")},
                    "status": outcome.status,
                }
            )
            self.cache.event(LLM_SERVICE, "MODIFIED", written)
        await _together(self.recorder.say(service, note.type, note.reason, note.message) for note in outcome.notes)

    def to_try_again(self, uid: str) -> bool:
        """Whether a write was refused that may succeed without an edit: over quota, denied, or in somebody's way."""
        return bool(self.refused.get(uid, {}).keys() - self._final.get(uid, {}).keys())

    def forget(self, uid: str) -> None:
        """The service is gone."""
        self.refused.pop(uid, None)
        self._final.pop(uid, None)
        self._as_wanted.pop(uid, None)

    def _remember(self, uid: str, refused: Refusals) -> bool:
        before = self.refused.pop(uid, {})
        if refused:
            self.refused[uid] = refused
        return before != refused

    async def _apply(self, service: Json, desired: Json) -> Refused | bool:
        """True when it was written, False when it is as wanted."""
        kind, name, wanted = kind_of(desired), desired["metadata"]["name"], stamped(desired)
        namespace = service["metadata"]["namespace"]
        found = self.cache.version(kind, namespace, name), wanted["metadata"]["annotations"][APPLIED]
        looked_at = self._as_wanted.setdefault(service["metadata"]["uid"], {})
        if looked_at.get((kind.kind, name)) == found:
            return False
        live = self.cache.get(kind, namespace, name)
        final, sent = self._final.setdefault(service["metadata"]["uid"], {}), (_uid(live), found[1])
        known = final.pop((kind.kind, name), None)
        if known is not None and known.sent == sent and self.clock() < known.until:
            final[kind.kind, name] = known
            return known.refused
        if (kind.kind, name) in self.refused.get(service["metadata"]["uid"], {}):
            live = await self.client.get(kind, namespace, name)  # what is in the way has no label and no watch
        if live is not None and _controller(live) != _controller(desired):
            return _in_the_way(kind, name)
        if not must_apply(wanted, live):
            if found[0] is not None:
                looked_at[kind.kind, name] = found
            return False
        try:
            uid = live["metadata"]["uid"] if live is not None else ""
            written = await self.client.apply(wanted, new=live is None, uid=uid)
        except ApiError as error:
            if not (error.refused or error.conflict or error.missing):
                raise
            result = await self._refusal(kind, desired, live, error)
            if error.final and isinstance(result, Refused) and result.reason != NAME_CONFLICT:
                final[kind.kind, name] = _Final(sent, result, self.clock() + AGAIN_SECONDS)
            return result
        self.cache.event(kind, "MODIFIED", {"apiVersion": kind.api_version, "kind": kind.kind, **written})
        looked_at[kind.kind, name] = int(written["metadata"]["resourceVersion"]), found[1]
        return True

    async def _refusal(self, kind: Kind, desired: Json, live: Json | None, error: ApiError) -> Refused | bool:
        """Why a write was refused; True when it was only that the cache lags: then it is decided anew."""
        name = desired["metadata"]["name"]
        if error.conflict or error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            there = await self.client.get(kind, desired["metadata"]["namespace"], name)
            if there is not None and _controller(there) != _controller(desired):
                return _in_the_way(kind, name)
            if _uid(there) != _uid(live):
                if live is not None:
                    self.cache.event(kind, "DELETED", live)
                if there is not None:
                    self.cache.event(kind, "MODIFIED", there)
                return True
        return Refused(kind.kind, name, error.reason, error.message)

    async def _delete(self, service: Json, delete: Delete) -> bool:
        """Nothing goes on the word of the cache: both the object and its service are read anew."""
        metadata = service["metadata"]
        kind = kind_of({"apiVersion": delete.api_version, "kind": delete.kind})
        owner = await self.client.get(LLM_SERVICE, metadata["namespace"], metadata["name"])
        live = await self.client.get(kind, metadata["namespace"], delete.name)
        if owner is None or live is None or owner["metadata"]["uid"] != metadata["uid"]:
            return False
        if live["metadata"]["uid"] != delete.uid or "deletionTimestamp" in live["metadata"]:
            return False
        return await self.client.delete(kind, metadata["namespace"], delete.name, delete.uid)


async def _together(writes: Iterable[Awaitable[T]]) -> list[T]:
    """All of them, to their end; then the first error among them is raised."""
    results = await asyncio.gather(*writes, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _in_the_way(kind: Kind, name: str) -> Refused:
    message = f"{kind} {name} is there already and does not belong to this service."
    return Refused(kind.kind, name, NAME_CONFLICT, message)


def _uid(obj: Json | None) -> str:
    return str(obj["metadata"]["uid"]) if obj is not None else ""


def _controller(obj: Mapping[str, object]) -> str | None:
    """uid of the owner that controls the object."""
    metadata = obj["metadata"]
    assert isinstance(metadata, dict)
    owners = metadata.get("ownerReferences", [])
    return next((str(owner["uid"]) for owner in owners if owner.get("controller")), None)
