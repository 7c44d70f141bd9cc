"""What is said while services start, change and stop: one line per change, from snapshots of the instance. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmservice_api.conditions import Reason


def lines(before: dict[str, Any] | None, now: dict[str, Any]) -> list[str]:
    """A line for every service whose situation changed between two snapshots."""
    old = {_name(entry): _kind(situation(entry)) for entry in before["services"]} if before else {}
    new = {_name(entry): situation(entry) for entry in now["services"]}
    said = [*_scaled(before, now)] if before else []
    said += [f"{name}: {text}" for name, text in new.items() if old.get(name) != _kind(text)]
    return said + [f"{name}: stopped" for name in old if name not in new]


def _scaled(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What demand decided, and why."""
    counts = {_name(entry): entry["object"]["spec"]["replicas"] for entry in before["services"]}
    for entry in now["services"]:
        name, count = _name(entry), entry["object"]["spec"]["replicas"]
        if entry.get("scaling") and counts.get(name, count) != count:
            yield f"{name}: {counts[name]} -> {count} replicas: {entry['scaling']}"


def situation(entry: dict[str, Any]) -> str:
    """One service in one line (a failure has its remedy in a second one)."""
    status = entry["object"]["status"]
    ready = condition(entry, "Ready")
    progress = condition(entry, "Progressing")
    wanted = entry["object"]["spec"]["replicas"]
    if ready["reason"] == Reason.IDLE:
        return f"idle: {ready['message']}"
    if ready["reason"] == Reason.WAITING_FOR_ROOM:
        return f"waiting: {ready['message']}"
    if ready["status"] == "True":
        text = f"ready, {status['readyReplicas']}/{wanted}"
        if ready["reason"] == Reason.SERVING_EARLIER:
            return f"{text}; {ready['message']}"
        if progress["reason"] != "Ready":
            text += f"; {progress['message']}"
        return text
    failed = next((facts["failure"] for facts in entry["replicas"] if facts["failure"] and not facts["draining"]), None)
    if failed is not None:
        fix = f"\n  fix: {failed['remedy']}" if failed["remedy"] else ""
        return f"failed ({failed['failure']}): {failed['message']}{fix}"
    resolved = condition(entry, "ModelResolved")
    if resolved["status"] == "False":
        return f"failed ({resolved['reason']}): {resolved['message']}"
    if ready["reason"] in ("Downloading", "Draining", "Stopped"):
        return str(ready["reason"]).lower()
    phases = sorted({facts["queued"] or facts["phase"] for facts in entry["replicas"]})
    return ", ".join(phases).lower() or "starting"


def condition(entry: dict[str, Any], kind: str) -> dict[str, Any]:
    """One condition of a service in a snapshot."""
    found: dict[str, Any] = next(item for item in entry["object"]["status"]["conditions"] if item["type"] == kind)
    return found


def _kind(text: str) -> str:
    """The same failure is told once, although its details differ from start to start."""
    return text.partition(": ")[0]


def _name(entry: dict[str, Any]) -> str:
    meta = entry["object"]["metadata"]
    return f"{meta['namespace']}/{meta['name']}"
