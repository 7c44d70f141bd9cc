"""LoRA adapters that a replica is to serve: the file that says which, what becomes of each, and what engines are told.

Who may write the file decides: the operator (a ConfigMap) or `llmservice up`. Nothing that listens takes adapters.

{"adapters": [{"name": "sql", "uri": "hf://acme/qwen-sql-lora", "revision": null, "secret": null}]}

Beside them `"tried": {"sql": "qwen-7d9c"}` says which replica loads one before the others: these fetch it meanwhile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from llmservice_runtime.contract.bounds import SettingsError, maybe_text, shown, text
from llmservice_runtime.contract.plain import plain

MOST = 64
"""Adapters of one service."""
LARGEST = 1 << 20
"""Bytes of the file; a ConfigMap has no more."""
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
OPTIONAL = ("revision", "secret")
MESSAGE = 1000
"""Characters of a message that are kept."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One that is wanted. `revision` None = what the source has now; `secret`: a folder with a file per key."""

    name: str
    uri: str
    revision: str | None = None
    secret: str | None = None


class AdapterState(StrEnum):
    """How far a replica is with an adapter."""

    PENDING = "Pending"
    FETCHING = "Fetching"
    LOADING = "Loading"
    LOADED = "Loaded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class AdapterStatus:
    """What a supervisor's /status says of one. `reason` is a failure class; empty while nothing is wrong."""

    name: str
    uri: str
    revision: str = ""
    """The commit or digest that was fetched."""
    state: AdapterState = AdapterState.PENDING
    reason: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        """Sources quote what strangers wrote."""
        object.__setattr__(self, "message", plain(self.message)[:MESSAGE])

    def as_json(self) -> dict[str, str]:
        """As /status spells it."""
        return {**asdict(self), "state": self.state.value}


def parse_adapters(source: str) -> tuple[Adapter, ...]:
    """The file's adapters; SettingsError names what is wrong."""
    try:
        body = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"The adapters are not JSON: {error}.", "Write one JSON object.") from error
    listed = body.get("adapters") if isinstance(body, dict) else None
    if not isinstance(listed, list):
        raise SettingsError(f"The adapters are {shown(body)}.", 'Write {"adapters": [...]}.')
    if len(listed) > MOST:
        raise SettingsError(f"There are {len(listed)} adapters; at most {MOST} are served.", "Leave some out.")
    adapters = tuple(map(_adapter, listed))
    names = [adapter.name for adapter in adapters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"The adapter `{twice[0]}` comes twice.", "Give each its own name.")
    return adapters


def _adapter(body: Any) -> Adapter:
    if not isinstance(body, dict) or not {"name", "uri"} <= body.keys():
        raise SettingsError(f"An adapter is {shown(body)}.", "Give each a `name` and a `uri`.")
    if unknown := sorted(body.keys() - {"name", "uri", *OPTIONAL}):
        raise SettingsError(f"An adapter has no field `{unknown[0]}`.", "Leave it out.")
    if not isinstance(body["name"], str) or not NAME.fullmatch(body["name"]):
        raise SettingsError(
            f"An adapter's `name` is {shown(body['name'])}; it must be a label of at most 63 lower case letters, "
            "digits and hyphens.",
            "Correct the name.",
        )
    if wanted := text(body["uri"]):
        raise SettingsError(
            f"The `uri` of `{body['name']}` is {shown(body['uri'])}; it must be {wanted}.", "Correct it."
        )
    for field in OPTIONAL:
        if body.get(field) is not None and (wanted := maybe_text(body[field])):
            raise SettingsError(f"The `{field}` of `{body['name']}` is {shown(body[field])}; it must be {wanted}.", "")
    return Adapter(body["name"], body["uri"], body.get("revision") or None, body.get("secret") or None)


def parse_tried(source: str) -> dict[str, str]:
    """By the names of adapters that one replica loads before the others, that replica's name; empty without any. Of a
    file whose adapters are right."""
    tried = json.loads(source).get("tried")
    return {str(name): str(first) for name, first in tried.items()} if isinstance(tried, dict) else {}


def adapters_json(adapters: Iterable[Adapter], tried: Mapping[str, str] | None = None) -> str:
    """The file's text."""
    body: dict[str, Any] = {"adapters": [asdict(adapter) for adapter in adapters]}
    return json.dumps(body | ({"tried": dict(tried)} if tried else {}), indent=2)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An adapter whose files are here: what an engine loads. Another `path` is another adapter."""

    name: str
    path: str


def order_line(turn: int, adapters: Iterable[Fetched]) -> bytes:
    """A line of the control pipe: these adapters, and no others, are to be loaded. Answered by a report of the turn."""
    return json.dumps({"turn": turn, "adapters": [asdict(adapter) for adapter in adapters]}).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Order:
    """What an engine reads of it."""

    turn: int
    adapters: tuple[Fetched, ...]


def parse_order(body: Any) -> Order | None:
    """None when it is another line."""
    if not isinstance(body, dict) or "adapters" not in body:
        return None
    return Order(int(body["turn"]), tuple(Fetched(str(a["name"]), str(a["path"])) for a in body["adapters"]))
