"""The error every layer raises for something the user can mend.

UserError
├── sources:   SourceError        (unreachable, gated, missing, damaged)
├── formats:   UnsupportedModel   (a format no engine reads)
├── selection: EngineUnavailable
├── install:   InstallError
└── api:       ManifestError      (line, field, value, reason, remedy)
"""

from __future__ import annotations

from llmservice_runtime.contract.failure import FailureClass


class UserError(Exception):
    """Something is wrong that the user can mend.

    `reason` is a sentence that says what is wrong, with the value; `remedy` is a sentence that says what to do;
    `failure` is the class that status conditions and the failure record carry.
    """

    failure: FailureClass = FailureClass.BAD_ARGUMENT

    def __init__(self, reason: str, remedy: str = "", failure: FailureClass | None = None) -> None:
        super().__init__(f"{reason} {remedy}".strip())
        self.reason = reason
        self.remedy = remedy
        if failure is not None:
            self.failure = failure
