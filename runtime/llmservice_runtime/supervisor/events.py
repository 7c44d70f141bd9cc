"""What can happen to a supervisor, and what it can do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llmservice_runtime.contract.failure import FailureRecord
from llmservice_runtime.supervisor.reports import Report


@dataclass(frozen=True, slots=True)
class Begin:
    """The supervisor starts."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A line came on the report pipe."""

    report: Report


@dataclass(frozen=True, slots=True)
class Exited:
    """The engine process is gone; `record` classifies it; `jitter` in [0, 1) spreads the restarts of many replicas."""

    record: FailureRecord
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class CanaryAnswered:
    """An idle engine answered over HTTP."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """SIGTERM or SIGINT; the second one means now."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


Event = Begin | Reported | Exited | CanaryAnswered | StopRequested | Tick


class Do(StrEnum):
    """Actions without arguments."""

    START = "start"
    TERMINATE = "terminate"
    """SIGTERM: the engine drains by itself, or has drained."""
    DRAIN = "drain"
    """Tell it on its control pipe."""
    KILL = "kill"
    CANARY = "canary"
    CLEAR_RECORD = "clear-record"


@dataclass(frozen=True, slots=True)
class Record:
    """Write the failure record."""

    record: FailureRecord


@dataclass(frozen=True, slots=True)
class Exit:
    """End the supervisor with this exit code."""

    code: int


Action = Do | Record | Exit
