"""What differs from Kubernetes when a service is run: how replicas are listed, started and stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llmservice_api.adapters_told import AdapterTold
from llmservice_api.adapters_tried import NOTHING, Tried
from llmservice_api.status import LoadStatus
from llmservice_cli.local.gpus import NO_GPU, GpuNeed
from llmservice_runtime.contract.adapters import Adapter
from llmservice_runtime.contract.failure import FailureRecord
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """One replica as it was last seen. `name` is unique over the life of an instance; `slot` counts from 0."""

    name: str
    slot: int
    pid: int = 0
    url: str = ""
    """Of the engine; empty until it listens."""
    ready: bool = False
    draining: bool = False
    phase: str = Phase.STARTING.value
    percent: int | None = None
    eta: int | None = None
    """Seconds until it is ready, by what the last load took; None = not known."""
    running: int = 0
    waiting: int = 0
    restarts: int = 0
    failure: FailureRecord | None = None
    """The last failure; a ready replica may have one behind it."""
    load: LoadStatus | None = None
    """The last load, held against the plan."""
    gave_up: bool = False
    """Another start would fail in the same way, so there is none."""
    held: bool = False
    """There is no room for it beside what runs; `failure` says who has it. It starts once there is."""
    gpus: tuple[str, ...] = ()
    """Those that it has, as people call them (`GPU 0`)."""
    crowded: str = ""
    """What other programs have of these, where it may be too much: a sentence."""
    adapters: tuple[AdapterTold, ...] = ()
    """What it says of each that it is to load."""
    queued: str = ""
    """What it waits for that has room and does not load yet: a sentence without its subject and its end."""


class Substrate(Protocol):
    """A place where replicas run. Changes of facts are told through the callback given to `start`'s owner."""

    def replicas(self) -> Sequence[ReplicaFacts]:
        """Everything that was started and has not ended."""
        ...

    def start(
        self,
        service: str,
        slot: int,
        settings: RuntimeSettings,
        memory_bytes: int = 0,
        gpus: GpuNeed = NO_GPU,
        adapters: Sequence[Adapter] = (),
        tried: Tried = NOTHING,
    ) -> str:
        """Start one replica of `service` (full name) once there is room for it, and keep it running; its name.
        `adapters` and `tried` as of `adapt`."""
        ...

    def adapt(self, replica: str, adapters: Sequence[Adapter], tried: Tried = NOTHING) -> None:
        """Have a replica load these adapters, and no others, while it goes on; those that others try first it only
        fetches."""
        ...

    async def stop(self, replica: str, *, force: bool = False) -> None:
        """End a replica: it gets no new work, its streams may finish up to drain_seconds (`force`: none do)."""
        ...
