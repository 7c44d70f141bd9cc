"""One reconcile: a pure function of what was observed."""

from __future__ import annotations

from datetime import datetime

from llmservice_operator.core.config import OperatorConfig
from llmservice_operator.core.values import Observed, Outcome


def reconcile(observed: Observed, config: OperatorConfig, now: datetime) -> Outcome:
    """What to write so that the cluster becomes what the service's spec asks for. `now` is in UTC."""
    if "deletionTimestamp" in observed.service["metadata"]:
        return Outcome()  # ownerReferences clean up
    return Outcome()
