"""The Deployment: the frozen template, as many replicas as the spec says, and how old ones make room."""

from __future__ import annotations

from llmservice_api.labels import RUNTIME
from llmservice_operator.facts.frozen import Frozen
from llmservice_operator.facts.owner import Json, Owner

SURGE = {"maxSurge": 1, "maxUnavailable": 0}
"""A new replica is ready before an old one ends."""
IN_PLACE = {"maxSurge": 0, "maxUnavailable": 1}
"""An old replica ends first: there is no room for one more."""


def deployment(owner: Owner, frozen: Frozen, replicas: int, in_place: bool) -> Json:
    """Everything about the pods comes from the frozen plan."""
    return owner.child(
        "apps/v1",
        "Deployment",
        owner.name,
        RUNTIME,
        spec={
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": frozen.progress_seconds,
            "selector": {"matchLabels": owner.selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": IN_PLACE if in_place else SURGE},
            "template": frozen.template,
        },
    )
