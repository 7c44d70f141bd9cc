"""The PodDisruptionBudget: a drain of nodes takes one replica at a time, and works with one replica as well."""

from __future__ import annotations

from llmservice_operator.facts.owner import Json, Owner


def disruption_budget(owner: Owner) -> Json:
    """Replicas that are not ready never hold up a drain."""
    return owner.child(
        "policy/v1",
        "PodDisruptionBudget",
        owner.name,
        spec={
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": owner.selector},
        },
    )
