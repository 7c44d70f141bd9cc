"""What became of a service's adapters, in a cluster and on one machine: an entry for each, and the condition of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmservice_api.adapters import AdapterState
from llmservice_api.adapters_told import AdapterTold
from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import FALSE, TRUE, UNKNOWN, Finding
from llmservice_runtime.contract.adapters import AdapterState as InReplica
from llmservice_runtime.contract.failure import FailureClass

ALONE = " It is one replica that tried it; the others are not told to load it."
UNTOLD = FailureClass.UNSUPPORTED_FORMAT
"""Of a replica that can't load one and does not say why: CRASHED is of what an engine died of."""
LONGEST = 1024
SHOWN = 5
"""Adapters that a condition names."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AskedFor:
    """One of spec.adapters. Replicas are told to load it unless it has a `reason` not to (`message` is its sentence),
    or `waits` says what it waits for."""

    name: str
    uri: str
    """As replicas are told it."""
    revision: str = ""
    """What the spec's was resolved to."""
    reason: str = ""
    message: str = ""
    waits: str = ""
    first: Sequence[AdapterTold] | None = None
    """What the replica says that tries it before the others; None = all are to load it."""


def adapter_entries(asked: Sequence[AskedFor], replicas: Sequence[Sequence[AdapterTold]]) -> list[Json]:
    """status.adapters, in the order of the spec. `replicas`: what each that takes requests says of its adapters."""
    return [_entry(one, replicas) for one in asked]


def _entry(one: AskedFor, replicas: Sequence[Sequence[AdapterTold]]) -> Json:
    entry: Json = {"name": one.name} | ({"resolvedRevision": one.revision} if one.revision else {})
    if one.reason:
        return entry | _said(AdapterState.FAILED, 0, one.reason, one.message)
    if one.waits:
        return entry | _said(AdapterState.PENDING, 0, "", one.waits)
    answers = [told_of(one.name, one.uri, told) for told in replicas]
    loaded = sum(answer is not None and serves(answer, one.revision) for answer in answers)
    if one.first is not None:
        said = told_of(one.name, one.uri, one.first)
        if said is not None and failed(said, one.revision):
            message = said.message + ALONE
            return entry | _said(AdapterState.FAILED, loaded, said.reason or UNTOLD, message)
        return entry | _said(AdapterState.LOADING, loaded)
    broken = [answer for answer in answers if answer is not None and failed(answer, one.revision)]
    if broken and len(broken) + loaded == len(answers):
        state = AdapterState.LOADED if loaded else AdapterState.FAILED
        some = f"{len(broken)} of {len(answers)} replicas could not load it: " if loaded else ""
        return entry | _said(state, loaded, broken[0].reason or UNTOLD, some + broken[0].message)
    if not answers:
        return entry | _said(AdapterState.PENDING, 0, "", "No replica is ready.")
    return entry | _said(AdapterState.LOADED if loaded == len(answers) else AdapterState.LOADING, loaded)


def told_of(name: str, uri: str, told: Sequence[AdapterTold]) -> AdapterTold | None:
    """What a replica says of this very adapter: under its name there may still be an earlier one."""
    return next((said for said in told if (said.name, said.uri) == (name, uri)), None)


def serves(answer: AdapterTold, revision: str) -> bool:
    """Whether a replica has this very revision (empty = any): the one before goes on until the next is loaded, or if it
    can't be."""
    known = not revision or not answer.revision or answer.revision == revision
    return answer.state is InReplica.LOADED and known


def failed(answer: AdapterTold, revision: str) -> bool:
    """Whether a replica can't load it."""
    return answer.state is InReplica.FAILED or (bool(answer.reason) and not serves(answer, revision))


def _said(state: AdapterState, loaded: int, reason: str = "", message: str = "") -> Json:
    words = {"reason": str(reason)[:64], "message": message[:LONGEST]}
    return {"state": state.value, "loadedReplicas": loaded, **{name: word for name, word in words.items() if word}}


def adapters_ready(entries: Sequence[Json], new_replicas: str, desired: int) -> Finding | None:
    """The condition; None without adapters. `new_replicas`: why replicas are replaced for their sake, a sentence."""
    kind = ConditionType.ADAPTERS_READY
    if not entries:
        return None
    if new_replicas:
        return Finding(kind, FALSE, Reason.ADAPTERS_NEED_ROOM, new_replicas)
    wrong = [entry for entry in entries if entry["state"] == AdapterState.FAILED]
    if wrong:
        return Finding(kind, FALSE, wrong[0]["reason"], " ".join(_sentences(wrong)))
    open_ones = [entry for entry in entries if entry["state"] != AdapterState.LOADED]
    if not open_ones:
        partly = [entry for entry in entries if entry.get("message")]
        said = () if partly else ("Every ready replica answers for each adapter.",)
        return Finding(kind, TRUE, Reason.ADAPTERS_LOADED, " ".join((*said, *_sentences(partly))))
    if not desired:
        return Finding(kind, UNKNOWN, Reason.WAITING, "No replica is wanted; the first one loads them.")
    names = ", ".join(entry["name"] for entry in open_ones[:SHOWN]) + (" and more" if open_ones[SHOWN:] else "")
    return Finding(kind, UNKNOWN, Reason.ADAPTERS_LOADING, f"Not loaded yet: {names}.")


def _sentences(entries: Sequence[Json]) -> Iterator[str]:
    yield from (f"{entry['name']}: {entry.get('message', '')}" for entry in entries[:SHOWN])
    if entries[SHOWN:]:
        yield f"{len(entries) - SHOWN} more: see status.adapters."
