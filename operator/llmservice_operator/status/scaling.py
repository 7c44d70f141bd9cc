"""What status says of scaling: the last decision, whether demand is known, and who decides."""

from __future__ import annotations

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import FALSE, TRUE, UNKNOWN, Finding
from llmservice_api.scaling import ScalingMode, ScalingSpec
from llmservice_operator.facts.values import Json, Observed, ScalingTold

IDLE = "Nobody asks for it now; a request waits and starts it."
OUTSIDE_ZERO = "It is scaled to none from outside; a request waits until that changes."
NOT_YET = "Nothing was decided yet."


def waits_at_zero(scaling: ScalingSpec | None) -> str:
    """Why requests wait for a service of 0 replicas; empty when a person's decision stands, and they fail at once."""
    if scaling is None or scaling.mode is ScalingMode.FIXED or scaling.dry_run:
        return ""
    return OUTSIDE_ZERO if scaling.mode is ScalingMode.EXTERNAL else IDLE


def scaling_findings(scaling: ScalingSpec | None, observed: Observed) -> list[Finding]:
    """MetricsAvailable and ScalingActive; none without spec.scaling. What is not known yet stays as it was told."""
    if scaling is None:
        return []
    kind = ConditionType.SCALING_ACTIVE
    if scaling.mode is ScalingMode.EXTERNAL:
        return [Finding(kind, FALSE, Reason.EXTERNAL, "An autoscaler of its own decides, through /scale.")]
    if scaling.mode is ScalingMode.FIXED:
        return [Finding(kind, FALSE, Reason.FIXED, "spec.replicas decides; the bounds wait until mode is Managed.")]
    return [_metrics(observed), _active(scaling, observed)]


def scaling_status(scaling: ScalingSpec | None, observed: Observed) -> Json | None:
    """`status.scaling`; what another leader told of the same number of replicas stays."""
    if scaling is None or not scaling.managed:
        return None
    before: Json | None = observed.service.get("status", {}).get("scaling")
    told = observed.scaling
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


def _metrics(observed: Observed) -> Finding:
    kind, told = ConditionType.METRICS_AVAILABLE, observed.scaling
    if told is None or told.unknown is None:
        return _as_before(kind, observed)
    if told.unknown:
        said = f"Not everything is known that scaling decides by, so no replica goes: {told.unknown}."
        return Finding(kind, FALSE, Reason.METRICS_MISSING, said)
    return Finding(kind, TRUE, Reason.METRICS_FOUND, "What is asked of the service is known.")


def _active(scaling: ScalingSpec, observed: Observed) -> Finding:
    kind, told = ConditionType.SCALING_ACTIVE, observed.scaling
    if told is None:
        return _as_before(kind, observed)
    bounds = f"within {scaling.min_replicas} to {scaling.max_replicas} replicas"
    if told.error:
        return Finding(kind, FALSE, Reason.WRITE_REFUSED, f"{_wants(told)}, and that is refused: {told.error}")
    if scaling.dry_run:
        return Finding(kind, FALSE, Reason.DRY_RUN, f"What demand wants, {bounds}, is told and not done.")
    return Finding(kind, TRUE, Reason.MANAGED, f"Demand decides, {bounds}.")


def _wants(told: ScalingTold) -> str:
    return f"Demand wants {told.desired} replicas"


def _as_before(kind: ConditionType, observed: Observed) -> Finding:
    conditions = observed.service.get("status", {}).get("conditions", ())
    known = next((condition for condition in conditions if condition["type"] == str(kind)), None)
    if known is None:
        return Finding(kind, UNKNOWN, Reason.WAITING, NOT_YET)
    return Finding(kind, known["status"], known["reason"], known.get("message", ""))
