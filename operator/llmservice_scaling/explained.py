"""A decision as JSON, for an endpoint, and as text, for `llmservice explain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmservice_scaling.decision import Decision, Explained

Json = dict[str, Any]
MOST_CHANGES = 10
_HEADER: tuple[str, ...] = ("SIGNAL", "VALUE", "AGE", "A REPLICA", "RAW", "WANTS", "LIMITED", "BOUNDED", "WHY")


@dataclass(frozen=True, slots=True)
class Change:
    """A decision that changed something, or would have. `at` is a time as the API writes it."""

    at: str
    before: int
    replicas: int
    reason: str
    sentence: str
    carried_out: bool = True


def as_json(
    name: str, decision: Decision | None, age: float, changes: Sequence[Change], notes: Sequence[str] = ()
) -> Json:
    """`decision` is the last one, made `age` seconds ago; None = there was none yet, and `notes` say why."""
    body: Json = {"service": name, "notes": list(notes), "changes": [_change(one) for one in changes]}
    if decision is None:
        return body
    return body | {
        "replicas": decision.replicas,
        "before": decision.before,
        "reason": str(decision.reason),
        "sentence": decision.sentence,
        "decidedSecondsAgo": round(age, 1),
        "highestInWindow": decision.highest,
        "neededByStreams": decision.streams,
        "warmFloor": decision.warm_floor,
        "idleSeconds": None if decision.idle_seconds is None else round(decision.idle_seconds, 1),
        "signals": [_signal(one, age) for one in decision.signals],
    }


def text(body: Mapping[str, Any]) -> str:
    """What `as_json` gave, for people."""
    return "\n".join(_lines(body))


def _change(one: Change) -> Json:
    return {
        "at": one.at,
        "before": one.before,
        "replicas": one.replicas,
        "reason": one.reason,
        "sentence": one.sentence,
        "carriedOut": one.carried_out,
    }


def _signal(one: Explained, age: float) -> Json:
    wanted = one.wanted
    return {
        "name": wanted.signal,
        "value": _number(wanted.value),
        "unit": wanted.unit,
        "ageSeconds": None if wanted.age is None else round(wanted.age + age, 1),
        "validity": str(wanted.validity),
        "target": _number(wanted.target),
        "raw": _number(wanted.raw),
        "replicas": wanted.replicas,
        "limited": one.limited,
        "bounded": one.bounded,
        "why": one.why,
    }


def _number(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity: these are told by name."""
    if value is None:
        return None
    return round(value, 3) if abs(value) < float("inf") else str(value)


def _lines(body: Mapping[str, Any]) -> Iterator[str]:
    yield from body["notes"]
    if "replicas" in body:
        moves = "" if body["before"] == body["replicas"] else f", before {body['before']}"
        yield f"{body['service']}: {body['replicas']} replicas{moves} ({body['reason']})"
        yield f"  {body['sentence']}."
        yield f"  {body['highestInWindow']} were wanted in the window, {body['neededByStreams']} are needed by streams."
        rows = [_HEADER, *(tuple(_cells(signal)) for signal in body["signals"])]
        yield ""
        yield from _table(rows)
    if body["changes"]:
        yield ""
        yield "Last decisions that changed something:"
        for one in body["changes"]:
            done = "" if one["carriedOut"] else " (not carried out)"
            yield f"  {one['at']}  {one['before']} -> {one['replicas']}{done}  {one['reason']}: {one['sentence']}"


def _cells(signal: Mapping[str, Any]) -> Iterator[str]:
    yield f"{signal['name']} ({signal['unit']})"
    yield _cell(signal["value"])
    yield "-" if signal["ageSeconds"] is None else f"{signal['ageSeconds']:.1f} s"
    for name in ("target", "raw", "replicas", "limited", "bounded"):
        yield _cell(signal[name])
    yield str(signal["why"])


def _cell(value: float | str | None) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, int | float) else value


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
