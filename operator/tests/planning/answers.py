"""What a planner's answer has to be, with the answer where it is the other."""

from __future__ import annotations

from llmservice_planning.plan import Plan, Refusal


def planned(answer: Plan | Refusal) -> Plan:
    """The plan."""
    assert isinstance(answer, Plan), answer
    return answer


def refused(answer: Plan | Refusal) -> Refusal:
    """The refusal."""
    assert isinstance(answer, Refusal), answer
    return answer
