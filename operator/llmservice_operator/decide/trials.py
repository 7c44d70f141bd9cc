"""Adapters that one replica of a service loads before the others: which, since when, and what became of it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from llmservice_api.adapters_found import ALONE
from llmservice_api.adapters_told import AdapterTold
from llmservice_api.adapters_tried import BACK_SECONDS, Taster, says, tried
from llmservice_operator.children.adapter_map import since_in, told_in, tried_in
from llmservice_operator.facts.live import Live, condition, holds, seconds_since
from llmservice_operator.facts.owner import Json
from llmservice_operator.facts.pod_fields import ADAPTERS
from llmservice_runtime.contract.adapters import Adapter, AdapterState
from llmservice_runtime.contract.failure import FailureClass

HOST_NAME = 63
"""Characters of a pod's name that its host has."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One that a pod loads before others are told to. `since`: the time, as the API writes it; `said`: what is known of
    it there."""

    pod: str
    since: str
    said: AdapterTold | None = None


def trials_of(
    wanted: Sequence[Adapter],
    service: Json,
    live: Live,
    told: Mapping[str, Sequence[AdapterTold]],
    now: datetime,
) -> dict[str, Trial]:
    """By adapters' names. `told` by the pods' uids. What an engine died of is known from the service's status when the
    pod is gone, or the operator has begun anew."""
    replicas = [_taster(pod, told, now) for pod in live.replicas if _reads_its_name(pod)]
    before, tries, since = told_in(live.adapter_map), tried_in(live.adapter_map), since_in(live.adapter_map)
    entries = service.get("status", {}).get("adapters") or []
    died = {one.name: said for one in before if one.name in tries and (said := _died(one, entries)) is not None}
    trying = {name: seconds_since(since.get(name), now) for name in tries}
    found: dict[str, Trial] = {}
    first = tried(wanted, before, tries, replicas, died, trying)
    for adapter in (one for one in wanted if one.name in first):
        same = adapter in before and tries.get(adapter.name) == first[adapter.name]
        began = (since.get(adapter.name) if same else None) or now.isoformat()
        taster = next((one for one in replicas if one.name == first[adapter.name]), None)
        past = died.get(adapter.name) if same else None
        said = says(adapter, taster, past, seconds_since(began, now))
        found[adapter.name] = Trial(first[adapter.name], began, said)
    return found


def judged_in(made: Mapping[str, Trial], live: Live, now: datetime) -> float | None:
    """Seconds until silence, or absence, of one that tries an adapter says something; None = that is not awaited."""
    pods = {pod["metadata"]["name"]: pod for pod in live.replicas}
    ages = [(seconds_since(trial.since, now), trial) for trial in made.values()]
    ages += [(_steady(pods[trial.pod], now), trial) for _, trial in list(ages) if trial.pod in pods]
    waits = [BACK_SECONDS - age for age, trial in ages if trial.said is None and age < BACK_SECONDS]
    return min(waits, default=None)


def _taster(pod: Json, told: Mapping[str, Sequence[AdapterTold]], now: datetime) -> Taster:
    metadata = pod["metadata"]
    return Taster(metadata["name"], holds(pod, "Ready"), told.get(metadata.get("uid", "")), _steady(pod, now))


def _steady(pod: Json, now: datetime) -> float:
    return seconds_since((condition(pod, "Ready") or {}).get("lastTransitionTime"), now)


def _died(adapter: Adapter, entries: Sequence[Json]) -> AdapterTold | None:
    """That an engine died of this very one, as status has it."""
    entry = next((one for one in entries if one["name"] == adapter.name), {})
    if (entry.get("state"), entry.get("reason")) != (AdapterState.FAILED, FailureClass.CRASHED):
        return None
    revision = entry.get("resolvedRevision", "")
    if revision != (adapter.revision or ""):
        return None
    message = entry.get("message", "").removesuffix(ALONE)
    return AdapterTold(adapter.name, adapter.uri, revision, AdapterState.FAILED, FailureClass.CRASHED, message)


def _reads_its_name(pod: Json) -> bool:
    """Whether it runs a replica that reads adapters, and knows itself in their file: by its host's name."""
    spec = pod["spec"]
    if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        return False
    named = not spec.get("hostname") and not spec.get("hostNetwork") and len(pod["metadata"]["name"]) <= HOST_NAME
    return named and any(volume["name"] == ADAPTERS for volume in spec.get("volumes", ()))
