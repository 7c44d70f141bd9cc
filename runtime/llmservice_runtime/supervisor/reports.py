"""Lines an engine writes on its report pipe, as values. Pure; what is not a report is None, never an exception."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.report import Phase, ReportKind


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """The engine entered a phase, or moved on in it. `progress` is 0..1 of this phase, None where unknown."""

    phase: Phase
    progress: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReadyReport:
    """The API listens on `port`; loading took `load_seconds`. `told` = it drains when it is told to, not by SIGTERM."""

    port: int
    load_seconds: float = 0.0
    detail: str = ""
    told: bool = False


@dataclass(frozen=True, slots=True)
class StepReport:
    """Requests running and waiting, and how many steps were completed since the engine started.

    `seconds` is what the step at hand takes by the engine's measured speed; 0 = not known. `kv_used` is the share of
    the KV cache that these requests use; None = it was not told.
    """

    running: int
    waiting: int
    steps: int
    seconds: float = 0.0
    kv_used: float | None = None


@dataclass(frozen=True, slots=True)
class AdaptersReport:
    """An order of adapters is carried out: what is loaded now, and why others are not."""

    turn: int
    loaded: frozenset[str]
    failed: Mapping[str, tuple[FailureClass, str]]


@dataclass(frozen=True, slots=True)
class DrainedReport:
    """Nothing runs any more in an engine that was told to drain."""


@dataclass(frozen=True, slots=True)
class FailureReport:
    """Why the engine is about to exit, in its own words."""

    failure: FailureClass
    message: str
    remedy: str = ""


Report = PhaseReport | ReadyReport | StepReport | AdaptersReport | DrainedReport | FailureReport


def parse_report(line: str | bytes) -> Report | None:
    """One line of the report pipe; None when it is not a report this version knows."""
    try:
        body = json.loads(line)
        if not isinstance(body, dict):
            return None
        return _from_body(ReportKind(body["kind"]), body)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _from_body(kind: ReportKind, body: dict[str, Any]) -> Report:
    if kind is ReportKind.PHASE:
        return PhaseReport(Phase(body["phase"]), _fraction(body.get("progress")), _text(body.get("detail")))
    if kind is ReportKind.READY:
        port = int(body["port"])
        if not 0 < port < 65536:
            raise ValueError(f"port {port}")
        told = body.get("told") is True
        return ReadyReport(port, _seconds(body.get("load_seconds", 0.0)), _text(body.get("detail")), told)
    if kind is ReportKind.STEP:
        running, waiting, steps = (_count(body[name]) for name in ("running", "waiting", "steps"))
        return StepReport(running, waiting, steps, _seconds(body.get("seconds", 0.0)), _fraction(body.get("kv_used")))
    if kind is ReportKind.ADAPTERS:
        failed = {str(k): (FailureClass(v["failure"]), _text(v["message"])) for k, v in body["failed"].items()}
        return AdaptersReport(_count(body["turn"]), frozenset(map(str, body["loaded"])), failed)
    if kind is ReportKind.DRAINED:
        return DrainedReport()
    return FailureReport(FailureClass(body["failure"]), _text(body["message"]), _text(body.get("remedy")))


def _count(value: object) -> int:
    return max(0, int(value)) if isinstance(value, int | float) else _refuse(value)


def _refuse(value: object) -> int:
    raise TypeError(f"not a number: {value!r}")


def _seconds(value: object) -> float:
    number = float(value) if isinstance(value, int | float) else 0.0
    return number if math.isfinite(number) and number >= 0 else 0.0


def _fraction(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return min(1.0, max(0.0, float(value)))


def _text(value: object) -> str:
    """Details are shown as one sentence; a dict of details (ready) is shown as its JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
