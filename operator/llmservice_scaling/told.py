"""What scaling by demand tells of itself, in a cluster and on one machine: in an object's status and when it is asked.

Status is told what changes: how many there are to be, and whether demand is known. Not what each signal says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import FALSE, TRUE, UNKNOWN, Finding
from llmservice_api.scaling import ScalingMode, ScalingSpec
from llmservice_scaling.decision import Decision
from llmservice_scaling.explained import MOST_CHANGES, Change, Json, as_json
from llmservice_scaling.words import unknown

UNKNOWN_SECONDS = 30.0
"""How long something is not known before it is told: one replica that is asked for the first time is no news."""
NOT_YET = "Nothing was decided yet."


@dataclass(frozen=True, slots=True)
class ScalingTold:
    """What scaling by demand has to tell in status. Another value only when something changed that is told."""

    desired: int
    reason: str
    message: str
    """A sentence without a full stop."""
    unknown: str | None = None
    """What of demand is not known, for a while already; empty = all is known; None = it is too early to say."""
    scaled_at: str = ""
    """When it last changed the number of replicas, in this term of leadership."""
    error: str = ""
    """Why /scale was refused."""

    def knows(self, unknown: str | None) -> ScalingTold:
        """The same, with this not known."""
        return self if self.unknown == unknown else replace(self, unknown=unknown)

    def written(self, at: str) -> ScalingTold:
        """It was carried out."""
        return replace(self, scaled_at=at, error="")

    def refused(self, error: str) -> ScalingTold:
        """It could not be carried out."""
        return replace(self, error=error)


class Telling:
    """What is told of one service, from one decision to the next."""

    def __init__(self) -> None:
        self.told: ScalingTold | None = None
        """For status."""
        self._decision: Decision | None = None
        self._decided_at = 0.0
        self._unknown_since: float | None = None
        self._changes: deque[Change] = deque(maxlen=MOST_CHANGES)

    @property
    def decision(self) -> Decision | None:
        """The last one."""
        return self._decision

    def decided(self, decision: Decision, now: float, wall: datetime, *, why: str = "", dry_run: bool = False) -> None:
        """`why`: what is known of why not everything is told. `dry_run`: it is not carried out."""
        self._decision, self._decided_at = decision, now
        before = self.told
        known = before.unknown if before is not None else None
        if decision.metrics_available:
            self._unknown_since, known = None, ""
        elif self._unknown_since is None:
            self._unknown_since = now
        elif now - self._unknown_since >= UNKNOWN_SECONDS and not known:
            known = f"{unknown(decision)}{f' ({why})' if why else ''}"
        if before is not None and before.desired == decision.replicas:
            self.told = before.knows(known)
            return
        reason, sentence = str(decision.reason), decision.sentence
        self.told = ScalingTold(decision.replicas, reason, sentence, known, before.scaled_at if before else "")
        if decision.before != decision.replicas:
            self._changes.append(Change(stamp(wall), decision.before, decision.replicas, reason, sentence, not dry_run))

    def changed(self, change: Change) -> None:
        """Something else than demand changed the number of replicas."""
        known = self.told.unknown if self.told is not None else None
        self.told = ScalingTold(change.replicas, change.reason, change.sentence, known, change.at)
        self._changes.append(change)

    def wrote(self, wall: datetime) -> None:
        """What was decided last was carried out."""
        if self.told is not None:
            self.told = self.told.written(stamp(wall))

    def refused(self, why: str) -> None:
        """It could not be carried out."""
        if self.told is not None:
            self.told = self.told.refused(why)

    def explain(self, name: str, now: float, notes: Sequence[str] = ()) -> Json:
        """The last decision with each signal, and the last ones that changed something."""
        return as_json(name, self._decision, now - self._decided_at, tuple(self._changes), notes)


def stamp(wall: datetime) -> str:
    """A time as the API writes it."""
    return wall.strftime("%Y-%m-%dT%H:%M:%SZ")


def scaling_status(scaling: ScalingSpec | None, told: ScalingTold | None, before: Json | None) -> Json | None:
    """`status.scaling`; what was told (`before`) of the same number of replicas stays, also by another leader."""
    if scaling is None or not scaling.managed:
        return None
    if told is None:
        return before
    scaled_at = told.scaled_at or (before or {}).get("lastScaleTime", "")
    if before is not None and before.get("desiredReplicas") == told.desired:
        if before.get("lastScaleTime", "") == scaled_at:
            return before
        if not told.scaled_at:
            return {**before, "lastScaleTime": scaled_at}
    said = {"desiredReplicas": told.desired, "reason": told.reason, "message": f"{told.message}."}
    return {**said, "lastScaleTime": scaled_at} if scaled_at else said


def scaling_findings(
    scaling: ScalingSpec | None, told: ScalingTold | None, before: Iterable[Mapping[str, Any]]
) -> list[Finding]:
    """MetricsAvailable and ScalingActive; none without spec.scaling. What is not known yet stays as it was told in the
    conditions `before`."""
    if scaling is None:
        return []
    kind = ConditionType.SCALING_ACTIVE
    if scaling.mode is ScalingMode.EXTERNAL:
        return [Finding(kind, FALSE, Reason.EXTERNAL, "An autoscaler of its own decides, through /scale.")]
    if scaling.mode is ScalingMode.FIXED:
        return [Finding(kind, FALSE, Reason.FIXED, "spec.replicas decides; the bounds wait until mode is Managed.")]
    known = {str(condition["type"]): condition for condition in before}
    return [_metrics(told, known), _active(scaling, told, known)]


def _metrics(told: ScalingTold | None, before: Mapping[str, Mapping[str, Any]]) -> Finding:
    kind = ConditionType.METRICS_AVAILABLE
    if told is None or told.unknown is None:
        return _as_before(kind, before)
    if told.unknown:
        said = f"Not everything is known that scaling decides by, so no replica goes: {told.unknown}."
        return Finding(kind, FALSE, Reason.METRICS_MISSING, said)
    return Finding(kind, TRUE, Reason.METRICS_FOUND, "What is asked of the service is known.")


def _active(scaling: ScalingSpec, told: ScalingTold | None, before: Mapping[str, Mapping[str, Any]]) -> Finding:
    kind = ConditionType.SCALING_ACTIVE
    if told is None:
        return _as_before(kind, before)
    bounds = f"within {scaling.min_replicas} to {scaling.max_replicas} replicas"
    if told.error:
        wants = f"Demand wants {told.desired} replicas"
        return Finding(kind, FALSE, Reason.WRITE_REFUSED, f"{wants}, and that is refused: {told.error}")
    if scaling.dry_run:
        return Finding(kind, FALSE, Reason.DRY_RUN, f"What demand wants, {bounds}, is told and not done.")
    return Finding(kind, TRUE, Reason.MANAGED, f"Demand decides, {bounds}.")


def _as_before(kind: ConditionType, before: Mapping[str, Mapping[str, Any]]) -> Finding:
    known = before.get(str(kind))
    if known is None:
        return Finding(kind, UNKNOWN, Reason.WAITING, NOT_YET)
    return Finding(kind, known["status"], known["reason"], known.get("message", ""))
