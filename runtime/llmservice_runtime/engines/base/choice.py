"""What the selector answers."""

from __future__ import annotations

from dataclasses import dataclass

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.machine.machine import Device, Gpu


@dataclass(frozen=True, slots=True)
class RejectedEngine:
    """An engine that was not chosen, and the sentence why."""

    engine: EngineType
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine that runs the model best on this machine, whether it is installed or not.

    `gpu` is None on the CPU. `missing` is empty when the engine is installed, else the sentence what to do.
    """

    engine: EngineType
    device: Device
    gpu: Gpu | None
    reason: str
    rejected: tuple[RejectedEngine, ...] = ()
    notes: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True)
class NoChoice:
    """No engine runs the model here (or the one that was asked for does not): why, and what would.

    `instead` are the installed engines that would, where another one was asked for, the best first.
    """

    reason: str
    ways_out: tuple[str, ...]
    rejected: tuple[RejectedEngine, ...] = ()
    instead: tuple[EngineType, ...] = ()
