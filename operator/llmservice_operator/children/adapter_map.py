"""The ConfigMap of a service's adapters: the file that its replicas read, and what was read of each adapter's headers.

It is what outlives pods and Jobs: a replica that is started again loads what it says, and an adapter's revision, once
resolved, stays what it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmservice_operator.children.adapter_mounts import map_name
from llmservice_operator.facts.owner import Json, Owner, digest
from llmservice_operator.facts.paths import ADAPTERS_FILE
from llmservice_runtime.contract.adapters import Adapter, adapters_json, parse_adapters, parse_tried
from llmservice_runtime.contract.bounds import SettingsError
from llmservice_runtime.formats.lora_facts import LoraFacts

READ = "read.json"
"""Key beside the file: by `Adapter`'s source, what its headers say."""
TRIED_SINCE = "tried.json"
"""Key beside it: by names of adapters that one replica tries, the time from which on."""


@dataclass(frozen=True, slots=True)
class AdapterRead:
    """What a Job read of an adapter's headers, and at which revision."""

    revision: str
    facts: LoraFacts

    @staticmethod
    def of(body: Any) -> AdapterRead:
        """From JSON's object, as the Job reports it and the ConfigMap keeps it. ValueError when it is none."""
        if not isinstance(body, Mapping) or not isinstance(body.get("revision"), str):
            raise ValueError("it has no revision")
        return AdapterRead(body["revision"], LoraFacts.of(body.get("facts")))


def adapter_map(
    owner: Owner,
    wanted: Iterable[Adapter],
    read: Mapping[str, AdapterRead],
    tried: Mapping[str, str],
    since: Mapping[str, str],
) -> Json:
    """The object; `read` by the adapters' keys (`decide.adapters`), `tried` as replicas read it, `since` when each of
    these began."""
    kept = {key: {"revision": one.revision, "facts": json.loads(one.facts.to_json())} for key, one in read.items()}
    data = {ADAPTERS_FILE: adapters_json(wanted, tried), READ: json.dumps(kept, sort_keys=True)}
    if since:
        data[TRIED_SINCE] = json.dumps(dict(since), sort_keys=True)
    return owner.child("v1", "ConfigMap", map_name(owner), data=data)


def read_in(live: Json | None) -> dict[str, AdapterRead]:
    """What the live one keeps; nothing of what can't be read, as of another release."""
    try:
        kept = json.loads((live or {}).get("data", {}).get(READ, "{}"))
        return {str(key): AdapterRead.of(body) for key, body in kept.items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def told_in(live: Json | None) -> tuple[Adapter, ...]:
    """Those that replicas are told to load by the live one."""
    try:
        return parse_adapters((live or {}).get("data", {}).get(ADAPTERS_FILE))
    except (SettingsError, TypeError):
        return ()


def tried_in(live: Json | None) -> dict[str, str]:
    """Which pods the live one has try adapters first, by these' names."""
    return parse_tried(live["data"][ADAPTERS_FILE]) if live is not None and told_in(live) else {}


def since_in(live: Json | None) -> dict[str, str]:
    """Since when the live one has them tried, by their names; nothing of what can't be read."""
    try:
        kept = json.loads((live or {}).get("data", {}).get(TRIED_SINCE, "{}"))
        times = {str(name): datetime.fromisoformat(since) for name, since in kept.items()}
        return {name: time.isoformat() for name, time in times.items() if time.tzinfo is not None}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def file_digest(adapters: Json | None) -> str:
    """Of the file that replicas read in it; empty without one."""
    text = (adapters or {}).get("data", {}).get(ADAPTERS_FILE)
    return digest(text) if text is not None else ""
