"""Doing what the core decided: apply what differs, delete what still is what it was, one status, Events.

What the server refuses is not an error here: it is told to the core, which says it in status.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

from llmservice_api.conditions import Reason
from llmservice_kube.cache import Cache
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import (
    CLAIM,
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    JOB,
    LLM_SERVICE,
    POD,
    SERVICE_ACCOUNT,
    Json,
    Kind,
    kind_of,
)
from llmservice_operator.control.contested import contested, hurried
from llmservice_operator.control.diff import digest_of, must_apply, stamped, why
from llmservice_operator.control.health import Health
from llmservice_operator.control.ledger import Ledger, Place
from llmservice_operator.control.older_crd import OlderCrd
from llmservice_operator.control.recorder import Recorder
from llmservice_operator.control.rivals import left_alone
from llmservice_operator.control.transitions import turned
from llmservice_operator.facts.values import NAME_CONFLICT, Delete, Outcome, Poke, Refused

_LATE = (JOB, CONTROLLER_REVISION, DEPLOYMENT)
"""Kinds that need what is applied before them; the others need nothing, and wait for nothing."""
_NAMED = (SERVICE_ACCOUNT, CLAIM, CONFIG_MAP)
"""Kinds that pods name and get rights or files from: those of somebody else, of the same name, are not ours to lend."""
_NOTHING = "", ""
"""What a deletion sends."""
T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Actor:
    """Writes for one operator."""

    client: Client
    cache: Cache
    recorder: Recorder
    ledger: Ledger = field(default_factory=Ledger)
    clock: Callable[[], float] = time.monotonic
    crd: OlderCrd = field(default_factory=lambda: OlderCrd(Health(float("inf")), time.monotonic))
    _large: dict[str, str] = field(default_factory=dict)
    """Version of each service, by uid, that was too large for its status to be written."""

    async def children(self, service: Json, outcome: Outcome) -> bool:
        """Apply and delete. True when something was written, or refused in another way than before: decide again."""
        uid = service["metadata"]["uid"]
        before = self.ledger.refused(uid)
        wanted = {(desired["kind"], desired["metadata"]["name"]) for desired in outcome.apply}
        wanted |= {(delete.kind, delete.name) for delete in outcome.delete}
        self.ledger.only(uid, wanted, self.clock())
        early = [desired for desired in outcome.apply if kind_of(desired) not in _LATE]
        wrote = any(await _together(self._apply(service, desired) for desired in early))
        for desired in outcome.apply:
            if kind_of(desired) in _LATE and not (_makes_pods(desired) and self._lacks(outcome.apply)):
                wrote |= await self._apply(service, desired)
        for delete in outcome.delete:
            wrote |= await self._delete(service, delete)
        await _together(self._poke(service, poke) for poke in outcome.pokes)
        return self._news(service, before) or wrote

    async def report(self, service: Json, outcome: Outcome) -> bool:
        """Write the status when it says something new, then the Events. Transitions only: no status, no Events.

        False when the service has changed meanwhile: decide again. The answer to the write has that change already, so
        that no event brings it as news any more. That nothing is written if it has changed is asked only while the
        service is not ours yet: of two installations that look at a new one, the first has it.
        """
        key = service["metadata"]["namespace"], service["metadata"]["name"]
        asked = self.cache.asked(key)
        if outcome.status is not None:
            try:
                if not await self._status(service, outcome.status):
                    await self._look_again(service)
                    return False
            except ApiError as error:
                if not error.too_large:
                    raise
                await self._too_large(service, error)
                return True
        for note in outcome.notes:  # one after the other: they are to be read in this order
            await self.recorder.say(service, note.type, note.reason, note.message)
        return self.cache.asked(key) == asked

    async def _status(self, service: Json, status: Json) -> bool:
        """Write what differs from the status that is there, as far as the CRD has it. False as in `report`."""
        before = service.get("status", {})
        while (said := self.crd.takes(status)) != before:
            ours = said.get("installation") == before.get("installation")
            names = ("name", "namespace") if ours else ("name", "namespace", "resourceVersion")
            metadata = {name: service["metadata"][name] for name in names}
            head = {"apiVersion": service["apiVersion"], "kind": service["kind"], "metadata": metadata}
            try:
                written = await self.client.apply_status({**head, "status": said})
            except ApiError as error:
                if self.crd.learn(error, said):
                    continue
                if ours or not error.conflict:
                    raise
                return False
            self.crd.wrote(said)
            self.cache.event(LLM_SERVICE, "MODIFIED", written)
            _log(service, "wrote its status", turned(before, said))
            break
        return True

    async def _too_large(self, service: Json, error: ApiError) -> None:
        """Said once of each version: nothing but an edit makes the service smaller."""
        metadata = service["metadata"]
        if self._large.get(metadata["uid"]) == metadata["resourceVersion"]:
            return
        self._large[metadata["uid"]] = metadata["resourceVersion"]
        said = (
            f"The service is so large that its status can't be written ({error.message}). Make its spec or its "
            "annotations smaller."
        )
        logger.warning("%s/%s: %s", metadata["namespace"], metadata["name"], said)
        await self.recorder.say(service, "Warning", Reason.WRITE_REFUSED, said)

    async def left(self, service: Json, holder: str, mine: str) -> None:
        """Say that the service is left to another installation, where nobody can take it back: in an Event."""
        await self.recorder.say(service, "Warning", Reason.OTHER_INSTALLATION, left_alone(holder, mine))

    def _news(self, service: Json, before: Mapping[Place, Refused]) -> bool:
        """Whether writes are refused in another way than before, and a line in the log for each that is."""
        now = self.ledger.refused(service["metadata"]["uid"])
        for place, refused in now.items():
            if before.get(place) != refused:
                said = f"{refused.kind} {refused.name} is not written: {refused.reason}: {refused.message}"
                logger.warning("%s/%s: %s", service["metadata"]["namespace"], service["metadata"]["name"], said)
        return before != now

    async def _apply(self, service: Json, desired: Json) -> bool:
        """Whether it was written, or must be decided anew. Why it could not be is in the ledger."""
        kind, name, wanted = kind_of(desired), desired["metadata"]["name"], stamped(desired)
        namespace, digest, now = service["metadata"]["namespace"], digest_of(wanted), self.clock()
        line = self.ledger.line(service["metadata"]["uid"], (kind.kind, name))
        version = self.cache.version(kind, namespace, name)
        if version is not None and line.as_wanted == (version, digest):
            line.settle(version, digest, now)
            return False
        live = self.cache.get(kind, namespace, name)
        sent = _uid(live), digest
        if line.stands(sent, now):
            return False
        if line.refused is not None and not line.contested:
            live = await self.client.get(kind, namespace, name)  # what is in the way has no label and no watch
        if live is not None and self._foreign(kind, live, desired):
            line.refuse(_in_the_way(kind, name), sent, now, final=False)
            return False
        if not must_apply(wanted, live):
            line.settle(version, digest, now)
            return False
        if line.undone(digest, now):
            if not (paused := line.paused(now)) or not line.contested:
                line.contest(await self._contested(kind, wanted))
            if paused:
                return False
        elif (pace := self.ledger.pace(service["metadata"]["uid"], kind.kind)).slowed(now):
            line.contest(hurried(kind.kind, name))
            if pace.paused(now):
                return False
        try:
            written = await self.client.apply(wanted, new=live is None, uid=_uid(live))
        except ApiError as error:
            if not (error.refused or error.conflict or error.missing):
                raise
            refused = await self._refusal(kind, desired, live, error)
            if refused is not None:
                line.refuse(refused, sent, now, error.final)
            return refused is None
        self.cache.event(kind, "MODIFIED", {"apiVersion": kind.api_version, "kind": kind.kind, **written})
        line.wrote(int(written["metadata"]["resourceVersion"]), digest, now)
        self.ledger.pace(service["metadata"]["uid"], kind.kind).wrote(now)
        _log(service, f"applied {kind} {name}", why(wanted, live))
        return True

    def _lacks(self, wanted: Iterable[Json]) -> bool:
        """Whether something that the pods name is not there, or is there and none of the service's own."""
        return any(self._is_not_ours(desired) for desired in wanted if kind_of(desired) in _NAMED)

    def _is_not_ours(self, desired: Json) -> bool:
        kind, metadata = kind_of(desired), desired["metadata"]
        live = self.cache.get(kind, metadata["namespace"], metadata["name"])
        return live is None or self._foreign(kind, live, desired)

    def _foreign(self, kind: Kind, live: Json, desired: Json) -> bool:
        """Whether it is none that we made: somebody else's, or one with content that no release of ours writes."""
        return _controller(live) != _controller(desired) or not self.cache.can_read(kind, live)

    async def _contested(self, kind: Kind, wanted: Json) -> Refused:
        """Who undoes what is written, and where: read anew, since the cache knows no managers but ours."""
        metadata = wanted["metadata"]
        live = await self.client.get(kind, metadata["namespace"], metadata["name"])
        return contested(kind.kind, wanted, live)

    async def _refusal(self, kind: Kind, desired: Json, live: Json | None, error: ApiError) -> Refused | None:
        """Why a write was refused; None when it was only that the cache lags: then it is decided anew."""
        name = desired["metadata"]["name"]
        if error.conflict or error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            there = await self.client.get(kind, desired["metadata"]["namespace"], name)
            if there is not None and self._foreign(kind, there, desired):
                return _in_the_way(kind, name)
            if _uid(there) != _uid(live):
                if live is not None:
                    self.cache.event(kind, "DELETED", live)
                if there is not None:
                    self.cache.event(kind, "MODIFIED", there)
                return None
        return Refused(kind.kind, name, error.reason, error.message)

    async def _look_again(self, service: Json) -> None:
        metadata = service["metadata"]
        if (now := await self.client.get(LLM_SERVICE, metadata["namespace"], metadata["name"])) is not None:
            self.cache.event(LLM_SERVICE, "MODIFIED", now)

    async def _poke(self, service: Json, poke: Poke) -> None:
        """Best effort: the kubelet looks by itself within a minute."""
        namespace = service["metadata"]["namespace"]
        pod = {"apiVersion": POD.api_version, "kind": POD.kind, "metadata": {"namespace": namespace, "name": poke.pod}}
        fields = {"metadata": {"uid": poke.uid, "annotations": {poke.annotation: poke.value}}}
        try:
            written = await self.client.merge(pod, fields)
        except ApiError as error:
            if not (error.missing or error.conflict or error.refused):
                raise
            if error.refused:
                logger.warning("%s/%s: it was not told to look at its adapters: %s", namespace, poke.pod, error)
            return
        self.cache.event(POD, "MODIFIED", written)

    async def _delete(self, service: Json, delete: Delete) -> bool:
        """Whether it was deleted. Why it could not be is in the ledger, as of any write."""
        kind, now = kind_of({"apiVersion": delete.api_version, "kind": delete.kind}), self.clock()
        line = self.ledger.line(service["metadata"]["uid"], (kind.kind, delete.name))
        try:
            deleted = await self._delete_what_still_is(service, kind, delete)
        except ApiError as error:
            if not error.refused:
                raise
            line.refuse(Refused(kind.kind, delete.name, error.reason, error.message), _NOTHING, now, final=False)
            return False
        line.settle(None, "", now)
        if deleted:
            _log(service, f"deleted {kind} {delete.name}", "the service no longer needs it")
        return deleted

    async def _delete_what_still_is(self, service: Json, kind: Kind, delete: Delete) -> bool:
        """Nothing goes on the word of the cache: both the object and its service are read anew."""
        metadata = service["metadata"]
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


def _makes_pods(desired: Json) -> bool:
    """Whether pods come of it that may run: not of a Deployment that is scaled to none."""
    return kind_of(desired) == JOB or (kind_of(desired) == DEPLOYMENT and desired["spec"].get("replicas", 1) != 0)


def _log(service: Json, what: str, reason: str) -> None:
    """One line for each write that matters: what, of which service, and why."""
    metadata = service["metadata"]
    logger.info("%s/%s: %s: %s", metadata["namespace"], metadata["name"], what, reason)


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
