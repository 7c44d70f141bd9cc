"""The error of everything that installs."""

from __future__ import annotations

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass


class InstallError(UserError):
    """An engine could not be installed; the reason says which step and why."""

    failure = FailureClass.ENGINE_NOT_INSTALLED
