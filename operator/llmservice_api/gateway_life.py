"""Whether a gateway is there, by its Lease: one rule for gateways and for the operator. Pure.

It lives while the Lease is seen to change, by our clock: clocks of gateways may be off by minutes. One that is seen for
the first time is believed where its time is not too far from ours. `now` is monotonic seconds, `wall` has a time zone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmservice_api.demand_lease import LEASE_SECONDS
from llmservice_api.labels import DEMAND

SKEW_SECONDS = 300.0
"""How far a gateway's clock may be off ours."""
MOST_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of one Lease."""

    mark: tuple[object, ...]
    """What changes when it is renewed, and when it tells something else."""
    began: tuple[object, object]
    """What changes when its holder begins anew."""
    heard: float
    """When it was last seen to change."""
    seconds: float
    """For how long it is believed from then on."""
    age: float | None
    """Seconds since its holder began, by both clocks; None = it does not say."""

    def lives(self, now: float) -> bool:
        """Whether the gateway is there."""
        return now - self.heard <= self.seconds


def looked_at(lease: Mapping[str, Any], known: Life | None, now: float, wall: datetime) -> Life:
    """The Lease as it is now; `known` itself where it has not changed since. `known`: what that said the last time."""
    metadata, spec = lease["metadata"], lease.get("spec") or {}
    renewed, began = spec.get("renewTime"), (metadata.get("uid"), spec.get("acquireTime"))
    mark = renewed, *began, (metadata.get("annotations") or {}).get(DEMAND)
    if known is not None and known.mark == mark:
        return known
    heard = now
    if known is None or known.began != began:
        ago = _seconds_ago(renewed, wall)
        heard = now if ago is not None and abs(ago) <= SKEW_SECONDS else -math.inf
    seconds = spec.get("leaseDurationSeconds")
    lasts = float(seconds) if isinstance(seconds, int) and 0 < seconds <= MOST_SECONDS else float(LEASE_SECONDS)
    return Life(mark, began, heard, lasts, _seconds_ago(began[1], wall))


def _seconds_ago(text: object, wall: datetime) -> float | None:
    try:
        return (wall - datetime.fromisoformat(str(text))).total_seconds()
    except (ValueError, TypeError):
        return None
