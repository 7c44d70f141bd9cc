"""The error every layer raises for something the user can mend.

UserError
├── sources:   SourceError        (unreachable, gated, missing, damaged)
├── formats:   UnsupportedModel   (a format no engine reads)
├── selection: EngineUnavailable
├── install:   InstallError
└── api:       ManifestError      (line, field, value, reason, remedy)
"""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.plain import plain


class UserError(Exception):
    """Something is wrong that the user can mend.

    `reason` is a sentence that says what is wrong, with the value; `remedy` is a sentence that says what to do;
    `failure` is the class that status conditions and the failure record carry. Both are one line, fit to be shown;
    `details` are lines that follow the reason.
    """

    failure: FailureClass = FailureClass.BAD_ARGUMENT

    def __init__(
        self, reason: str, remedy: str = "", failure: FailureClass | None = None, details: Sequence[str] = ()
    ) -> None:
        self.reason = "\n".join(map(plain, (reason, *details)))
        self.remedy = plain(remedy)
        super().__init__(f"{self.reason} {self.remedy}".strip())
        if failure is not None:
            self.failure = failure
