"""The part of the spec that says how many replicas there may be, where demand decides."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from llmservice_api.rules import ApiModel, Rule


class ScalingSpec(ApiModel):
    """Bounds within which the number of replicas follows demand. One machine only: a cluster's operator refuses it."""

    rules = (
        Rule(
            ".minReplicas",
            "self.minReplicas <= self.maxReplicas",
            lambda self: self.min_replicas <= self.max_replicas,
            "minReplicas is more than maxReplicas.",
            "Lower the one or raise the other.",
        ),
    )

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="As many run at least. 0 = none while nobody asks; a request waits and starts one."
    )
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(
        description="As many run at most, and no more than the machine has room for."
    )
    idle_seconds: Annotated[int, Field(ge=1, le=604_800)] = Field(
        default=600, description="With minReplicas 0: without any request for so long, the last one stops."
    )
    scale_down_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=300, description="A replica stays for so long after it was last needed beside others."
    )
