"""What keeps a service from being served: a reason from the one vocabulary, and a sentence with its remedy."""

from __future__ import annotations

from dataclasses import dataclass

from llmservice_runtime.contract.failure import FailureRecord


@dataclass(frozen=True, slots=True)
class Problem:
    """`reason` is a FailureClass or a Reason of llmservice_api.conditions."""

    reason: str
    message: str

    @staticmethod
    def of(record: FailureRecord) -> Problem:
        """What a supervisor or a prepare run said at its end."""
        return Problem(record.failure.value, f"{record.message} {record.remedy}".strip())
