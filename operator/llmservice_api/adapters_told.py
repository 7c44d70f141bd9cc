"""What replicas say of their adapters: who answers there is the tenant's, so all of it is bounded. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_api.adapters import MOST_ADAPTERS
from llmservice_runtime.contract.adapters import AdapterState
from llmservice_runtime.contract.plain import plain

LONGEST = 2048
"""Characters of a word."""


@dataclass(frozen=True, slots=True)
class AdapterTold:
    """One adapter as one replica has it. `reason` is empty while nothing is wrong."""

    name: str
    uri: str
    revision: str
    state: AdapterState
    reason: str = ""
    message: str = ""


def adapters_told(body: Mapping[str, Any]) -> tuple[AdapterTold, ...]:
    """Of a supervisor's /status. Raises ValueError for what is none."""
    listed = body.get("adapters") or []
    if not isinstance(listed, list) or len(listed) > 2 * MOST_ADAPTERS:
        raise ValueError("what it tells of adapters is no list")
    return tuple(map(_told, listed))


def _told(body: Any) -> AdapterTold:
    if not isinstance(body, Mapping):
        raise ValueError("what it tells of an adapter is no object")
    words = {name: _word(body.get(name)) for name in ("name", "uri", "revision", "reason", "message")}
    return AdapterTold(state=AdapterState(str(body.get("state"))), **words)


def _word(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"what it tells of an adapter is {value!r:.40}")
    return plain(value or "")[:LONGEST]
