"""Writes that the API server refused, as sentences with a way out."""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import FALSE, TRUE, Finding
from llmservice_operator.diagnosis.refusal import way_out
from llmservice_operator.facts.problem import Problem
from llmservice_operator.facts.values import CONTESTED, NAME_CONFLICT, Refused

SERVICE, CLAIM = "Service", "PersistentVolumeClaim"
MADE_ANEW = "Delete the claim, if it holds nothing that is needed: it is made anew as the spec says."


def conflict(refused: Sequence[Refused]) -> Finding:
    """NameConflict."""
    kind = ConditionType.NAME_CONFLICT
    foreign = [found for found in refused if found.reason == NAME_CONFLICT]
    if not foreign:
        return Finding(kind, FALSE, Reason.NO_CONFLICT, "No foreign object has the name of one of the service's own.")
    return Finding(kind, TRUE, Reason.NAME_CONFLICT, write_problem(foreign[0]).message)


def write_problem(refused: Refused) -> Problem:
    """One refused write."""
    what = f"{refused.kind} {refused.name}"
    if refused.reason == NAME_CONFLICT:
        return Problem(
            Reason.NAME_CONFLICT,
            f"There is a {what} already that does not belong to this service; it is left alone. Rename the service or "
            "remove that object.",
        )
    if refused.reason == CONTESTED:
        return Problem(Reason.CONTESTED, f"{what}: {refused.message}")
    out = MADE_ANEW if refused.kind == CLAIM and "immutable" in refused.message else way_out(refused.message)
    said = f"The API server refuses the {what} ({refused.reason}): {refused.message.rstrip('.')}. {out}"
    return Problem(Reason.WRITE_REFUSED, said)


def unreached(refused: Sequence[Refused]) -> Problem:
    """Replicas are ready, and no request comes to them."""
    mine = [found for found in refused if found.kind == SERVICE]
    return write_problem(mine[0]) if mine else Problem(Reason.STARTING, "The Service that leads to it is being made.")
