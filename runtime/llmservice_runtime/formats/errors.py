"""What a model is when no engine can read it."""

from __future__ import annotations

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass


class UnsupportedModel(UserError):
    """The files are of a format (or in a state) that no engine loads; the remedy says what to use instead."""

    failure = FailureClass.UNSUPPORTED_FORMAT
