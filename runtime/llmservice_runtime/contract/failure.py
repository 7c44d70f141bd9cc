"""The failure record: why a runtime stopped, small enough for a container's termination message."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from llmservice_runtime.contract.plain import plain

RECORD_LIMIT_BYTES = 4096
"""Kubernetes keeps this much of a termination message."""


class FailureClass(StrEnum):
    """Why a service is not served; condition reasons carry the same words."""

    HUB_UNREACHABLE = "HubUnreachable"
    MODEL_GATED = "ModelGated"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_CHANGED = "ModelChanged"
    """The source no longer holds what was asked for, but something else."""
    MODEL_DAMAGED = "ModelDamaged"
    UNSUPPORTED_FORMAT = "UnsupportedFormat"
    DOES_NOT_FIT = "DoesNotFit"
    ENGINE_NOT_INSTALLED = "EngineNotInstalled"
    DRIVER_TOO_OLD = "DriverTooOld"
    """The node's GPU driver is older than what the engine was built with asks for."""
    OUT_OF_MEMORY = "OutOfMemory"
    OUT_OF_GPU_MEMORY = "OutOfGPUMemory"
    DISK_FULL = "DiskFull"
    VOLUME_FAILED = "VolumeFailed"
    BAD_ARGUMENT = "BadArgument"
    PORT_IN_USE = "PortInUse"
    LOAD_TIMEOUT = "LoadTimeout"
    SELF_TEST_FAILED = "SelfTestFailed"
    NO_PROGRESS = "NoProgress"
    CRASHED = "Crashed"


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """One failure as the supervisor writes it to the termination log.

    `message` says what happened with its numbers, `remedy` what to do; `phase` is the load phase it happened in;
    `exit_code` is the engine's (negative = signal), None when it never started.
    """

    failure: FailureClass
    message: str
    remedy: str
    phase: str
    exit_code: int | None = None

    def __post_init__(self) -> None:
        """Engines quote what strangers wrote."""
        for name in ("message", "remedy", "phase"):
            object.__setattr__(self, name, plain(getattr(self, name)))

    def to_json(self) -> str:
        """JSON text of at most 4096 bytes; an over-long message is cut in the middle, never the class or the remedy."""
        body: dict[str, Any] = asdict(self)
        text = json.dumps(body, ensure_ascii=False)
        while len(text.encode()) > RECORD_LIMIT_BYTES:
            message = body["message"]
            if len(message) > 64:
                keep = max(24, len(message) // 3)
                body["message"] = message[:keep] + " ... " + message[-keep:]
            else:
                body["remedy"] = body["remedy"][: len(body["remedy"]) // 2]
            text = json.dumps(body, ensure_ascii=False)
        return text

    @staticmethod
    def from_json(text: str) -> FailureRecord:
        """Parse a record; raises ValueError when it is not one."""
        try:
            body = json.loads(text)
            return FailureRecord(
                failure=FailureClass(body["failure"]),
                message=str(body["message"]),
                remedy=str(body["remedy"]),
                phase=str(body["phase"]),
                exit_code=body.get("exit_code"),
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a failure record: {error}") from error
