"""The part of the spec that says how many replicas there may be, and who decides."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from llmservice_api.rules import ApiModel, Rule, no_items

_Cron = Annotated[str, StringConstraints(min_length=9, max_length=128)]


class ScalingMode(StrEnum):
    """Who decides how many replicas there are."""

    MANAGED = "Managed"
    EXTERNAL = "External"
    FIXED = "Fixed"


class ScheduleSpec(ApiModel):
    """A warm floor: so many run at least, from each start to the next end."""

    start: _Cron = Field(description="When it begins: minute hour day month weekday, such as `0 8 * * 1-5`.")
    end: _Cron = Field(description="When it ends, in the same way.")
    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        default="UTC", description="Of both: `Europe/Berlin`."
    )
    replicas: Annotated[int, Field(ge=1, le=1000)] = Field(description="As many run at least meanwhile.")


class TargetSpec(ApiModel):
    """What one replica is wanted to have to do."""

    requests_per_replica: Annotated[int, Field(ge=1, le=100_000)] = Field(
        description="Requests held and in flight for each, instead of what the plan says."
    )


class ScalingSpec(ApiModel):
    """Bounds within which the number of replicas follows demand."""

    rules = (
        Rule(
            ".minReplicas",
            "self.minReplicas <= self.maxReplicas",
            lambda self: self.min_replicas <= self.max_replicas,
            "minReplicas is more than maxReplicas.",
            "Lower the one or raise the other.",
        ),
        Rule(
            ".dryRun",
            "!self.dryRun || self.mode == 'Managed'",
            lambda self: not self.dry_run or self.mode is ScalingMode.MANAGED,
            "dryRun tells what Managed would do, and mode is another.",
            "Leave one of them out.",
        ),
    )

    mode: ScalingMode = Field(
        default=ScalingMode.MANAGED,
        description="Managed: demand decides, within the bounds. External: a HorizontalPodAutoscaler or KEDA does, "
        "through /scale and with bounds of its own; clusters only. Fixed: spec.replicas does, and all "
        "else here waits until it is Managed again.",
    )
    dry_run: bool = Field(
        default=False,
        description="Decide and tell, in status, Events and by `llmservice explain`, but scale nothing.",
    )
    min_replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="As many run at least. 0 = none while nobody asks; a request waits and starts one. That needs a "
        "gateway.",
    )
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="As many run at most; on one machine also no more than it has room for."
    )
    idle_seconds: Annotated[int, Field(ge=1, le=604_800)] = Field(
        default=600, description="With minReplicas 0: without any request for so long, the last one stops."
    )
    scale_down_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=300, description="A replica stays for so long after it was last needed beside others."
    )

    schedules: list[ScheduleSpec] = Field(
        default_factory=no_items,
        max_length=16,
        description="More than minReplicas at certain times, and no more than maxReplicas. Omitted = never.",
    )
    target: TargetSpec | None = Field(default=None, description="Omitted = as the plan has it.")

    @property
    def managed(self) -> bool:
        """Whether demand is looked at, be it only to tell."""
        return self.mode is ScalingMode.MANAGED

    @property
    def decides(self) -> bool:
        """Whether demand decides how many replicas there are."""
        return self.managed and not self.dry_run


def wakes(scaling: Mapping[str, Any] | None) -> bool:
    """Whether a service of no replicas is one that demand, or an autoscaler of its own, gives some again: requests wait
    for it. `scaling` is the field as the API server has it."""
    if scaling is None or scaling.get("dryRun"):
        return False
    return bool(scaling.get("mode", ScalingMode.MANAGED) != ScalingMode.FIXED)


class ScalingStatus(ApiModel):
    """The last decision that changed something; `llmservice explain` has the live one, with each signal."""

    desired_replicas: Annotated[int, Field(ge=0)] = Field(description="Replicas that demand wants, within the bounds.")
    reason: Annotated[str, StringConstraints(max_length=64)] = Field(description="What decided, in one word.")
    message: Annotated[str, StringConstraints(max_length=1024)] = Field(description="The same as a sentence.")
    last_scale_time: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None,
        description="When it last changed the number of replicas.",
        json_schema_extra={"format": "date-time"},
    )
