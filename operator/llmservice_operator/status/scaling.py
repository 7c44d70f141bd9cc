"""What status says of scaling: the last decision, whether demand is known, and who decides."""

from __future__ import annotations

from llmservice_api.findings import Finding
from llmservice_api.scaling import ScalingMode, ScalingSpec
from llmservice_operator.facts.values import Json, Observed
from llmservice_scaling import told

IDLE = "Nobody asks for it now; a request waits and starts it."
OUTSIDE_ZERO = "It is scaled to none from outside; a request waits until that changes."


def waits_at_zero(scaling: ScalingSpec | None) -> str:
    """Why requests wait for a service of 0 replicas; empty when a person's decision stands, and they fail at once."""
    if scaling is None or scaling.mode is ScalingMode.FIXED or scaling.dry_run:
        return ""
    return OUTSIDE_ZERO if scaling.mode is ScalingMode.EXTERNAL else IDLE


def scaling_findings(scaling: ScalingSpec | None, observed: Observed) -> list[Finding]:
    """MetricsAvailable and ScalingActive; none without spec.scaling. What is not known yet stays as it was told."""
    return told.scaling_findings(scaling, observed.scaling, observed.service.get("status", {}).get("conditions", ()))


def scaling_status(scaling: ScalingSpec | None, observed: Observed) -> Json | None:
    """`status.scaling`; what another leader told of the same number of replicas stays."""
    return told.scaling_status(scaling, observed.scaling, observed.service.get("status", {}).get("scaling"))
