"""From spec.scaling to the policy's rules."""

from __future__ import annotations

from llmservice_api.scaling import ScalingSpec
from llmservice_scaling.rules import Rules
from llmservice_scaling.schedule import warm_floor


def rules(scaling: ScalingSpec, most: int | None = None) -> Rules:
    """`most`: no more than so many, whatever the spec says. Raises UserError for a schedule that can't be read."""
    highest = scaling.max_replicas if most is None else max(1, min(scaling.max_replicas, most))
    floors = tuple(
        warm_floor(one.start, one.end, one.time_zone, one.replicas, f"spec.scaling.schedules[{number}]")
        for number, one in enumerate(scaling.schedules)
    )
    return Rules(
        min_replicas=min(scaling.min_replicas, highest),
        max_replicas=highest,
        idle_seconds=scaling.idle_seconds,
        scale_down_seconds=scaling.scale_down_seconds,
        in_flight=scaling.target.requests_per_replica if scaling.target is not None else None,
        floors=floors,
    )
