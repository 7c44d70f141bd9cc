"""Condition types and reasons: the one place where these words stand. Failure classes are reasons too."""

from enum import StrEnum


class ConditionType(StrEnum):
    """Types of status.conditions."""

    READY = "Ready"
    """A request made now is served."""
    AVAILABLE = "Available"
    """At least one endpoint is ready."""
    PROGRESSING = "Progressing"
    SPEC_VALID = "SpecValid"
    MODEL_RESOLVED = "ModelResolved"
    CACHED = "Cached"


class Reason(StrEnum):
    """Reasons beyond contract.failure.FailureClass."""

    READY = "Ready"
    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    LOADING = "Loading"
    RESTARTING = "Restarting"
    DRAINING = "Draining"
    STOPPED = "Stopped"
    RESOLVED = "Resolved"
    VALID = "Valid"
    INVALID = "Invalid"
    CACHED = "Cached"
