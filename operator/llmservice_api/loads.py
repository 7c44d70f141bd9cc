"""What was planned, and what a supervisor says of a load, as status shows it. Who answers may be anybody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from llmservice_api.status import LoadMemory, LoadPhase, LoadStatus, PlannedMemory, PredictedSpeed, RejectedEngineStatus
from llmservice_runtime.contract.memory import MOST_LINES, PlannedLine
from llmservice_runtime.contract.plain import plain
from llmservice_runtime.contract.report import Phase

MOST_FINDINGS = 8
LONGEST = 1024
"""Characters of a finding."""
LONGEST_NAME = 128
MIB = 1 << 20


def load_status(report: Mapping[str, Any], revision: str = "", pod: str = "") -> LoadStatus | None:
    """`status.load` of what /status has under `load`; None when that makes no sense."""
    try:
        predicted, measured = report["predicted"], report["measured"]
        return LoadStatus(
            revision=revision or None,
            pod=pod or None,
            milliseconds=round(report["seconds"] * 1000),
            phases=list(_phases(report["phases"])),
            planned_memory=_mib(predicted.get("host")),
            measured_memory=_mib(measured.get("host")),
            plannedGPUMemory=_mib(predicted.get("gpu")),
            measuredGPUMemory=_mib(measured.get("gpu")),
            memory=list(_lines(report.get("memory", ()))),
            tokens_per_second=_speed(report, "tokens_per_second"),
            prompt_tokens_per_second=_speed(report, "prompt_tokens_per_second"),
            together_tokens_per_second=_speed(report, "together_tokens_per_second"),
            findings=[plain(str(said))[:LONGEST] for said in report["findings"][:MOST_FINDINGS]],
        )
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, ValidationError):
        return None


def planned_memory(lines: Sequence[PlannedLine]) -> list[PlannedMemory]:
    """`status.plan.memory` of what a replica is told."""
    return [
        PlannedMemory(name=line.name[:LONGEST_NAME], where=line.where, planned=_mib(line.bytes) or "0Mi")
        for line in lines[:MOST_LINES]
    ]


def predicted_speed(told: Mapping[str, Any]) -> PredictedSpeed | None:
    """`status.plan.speed` of a plan's; None where it has none, or another release has kept it otherwise."""
    names = ("tokens_per_second", "full_tokens_per_second", "together_tokens_per_second")
    try:
        said = PredictedSpeed(
            **{name: _speed(told, name) for name in names}, unknown=plain(str(told["unknown"]))[:512] or None
        )
    except (KeyError, TypeError, ValueError, OverflowError, ValidationError):
        return None
    return said if said != PredictedSpeed() else None


def rejected_engines(rejected: Iterable[tuple[str, str]]) -> list[RejectedEngineStatus]:
    """`status.plan.rejected` of (engine, reason)."""
    return [RejectedEngineStatus(engine=engine, reason=plain(reason)[:LONGEST]) for engine, reason in rejected]


def _phases(phases: Mapping[str, float]) -> Iterator[LoadPhase]:
    for phase in Phase:
        if (seconds := phases.get(phase.value)) is not None:
            yield LoadPhase(name=phase.value, milliseconds=round(seconds * 1000))


def _lines(lines: Sequence[Mapping[str, Any]]) -> Iterator[LoadMemory]:
    for line in lines[:MOST_LINES]:
        yield LoadMemory(
            name=plain(str(line["name"]))[:LONGEST_NAME],
            where=line["where"],
            planned=_mib(line["predicted"]) or "0Mi",
            measured=None if line["measured"] is None else _mib(line["measured"]) or "0Mi",
        )


def _speed(report: Mapping[str, Any], name: str) -> int | None:
    speed = report.get(name)
    return max(1, round(speed)) if speed else None


def _mib(size: int | None) -> str | None:
    return f"{-(-size // MIB)}Mi" if size else None
