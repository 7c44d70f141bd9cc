"""What a new status says that the one before did not, in a few words for the log. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def turned(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`Ready False Starting -> True Ready`; without a turn of a condition, which fields differ."""
    old, new = _told(before), _told(after)
    turns = [f"{kind} {old.get(kind, 'unset')} -> {told}" for kind, told in new.items() if old.get(kind) != told]
    if turns:
        return ", ".join(turns)
    return f"{', '.join(name for name in after if after[name] != before.get(name)) or 'less'} changed"


def _told(status: Mapping[str, Any]) -> dict[str, str]:
    return {entry["type"]: f"{entry['status']} {entry['reason']}" for entry in status.get("conditions", ())}
