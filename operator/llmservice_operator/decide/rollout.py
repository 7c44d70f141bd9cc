"""Rollouts ask the scheduler: a replica more first, and in place only when there is no room and no node comes."""

from __future__ import annotations

from datetime import datetime

from llmservice_operator.children.deployment import IN_PLACE
from llmservice_operator.diagnosis.pods import unscheduled
from llmservice_operator.facts.live import Live, revision_of, seconds_since
from llmservice_operator.facts.waiting import coming_node

PATIENCE = 60
"""Seconds that a surge replica may stay without a node: so long an autoscaler may take to say that it adds one."""


def in_place(live: Live, revision: str, now: datetime) -> bool:
    """Whether old replicas must end before new ones start. Once decided, it holds for the rest of the rollout."""
    if live.deployment is None or not _old(live, revision):
        return False
    if live.deployment["spec"].get("strategy", {}).get("rollingUpdate") == IN_PLACE:
        return True
    return any(wait >= PATIENCE for wait in _waits(live, revision, now))


def decide_in(live: Live, revision: str, now: datetime) -> float | None:
    """Seconds until a replica that waits for a node has waited long enough; None when none does."""
    waits = [PATIENCE - wait for wait in _waits(live, revision, now) if wait < PATIENCE]
    return min(waits) if waits and _old(live, revision) else None


def _old(live: Live, revision: str) -> bool:
    return any(revision_of(pod) != revision for pod in live.replicas)


def _waits(live: Live, revision: str, now: datetime) -> list[float]:
    mine = [pod for pod in live.replicas if revision_of(pod) == revision]
    return [
        seconds_since(found.get("lastTransitionTime"), now)
        for pod in mine
        if (found := unscheduled(pod)) is not None and not coming_node(live.events_of(pod), now)
    ]
