"""This machine as a substrate: a supervisor process per replica, on loopback ports that the kernel chooses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import aiohttp

from llmservice_api.adapters_tried import NOTHING, Tried
from llmservice_cli.engine_builds import gpus_here
from llmservice_cli.local.giving_way import Turns
from llmservice_cli.local.gpus import NO_GPU, GpuNeed
from llmservice_cli.local.holds import Memory, Need
from llmservice_cli.local.line import Line
from llmservice_cli.local.load_times import LoadTimes
from llmservice_cli.local.loading import LoadQueue, at_once
from llmservice_cli.local.replica import LocalReplica
from llmservice_cli.local.room import Claim, Room, real
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_runtime.contract.adapters import Adapter
from llmservice_runtime.contract.failure import FailureRecord
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.machine.probe import cpus


def log_file(state: Path, service: str, slot: int) -> Path:
    """Where replica `slot` of `service` (full name) writes, over all its restarts."""
    return state / "logs" / service / f"{slot}.log"


class LocalSubstrate:
    """Implements Substrate. `on_change` is called when anything about any replica changed. `memory_bytes` is what all
    replicas may have together; None = what the machine has."""

    def __init__(self, state: Path, on_change: Callable[[], None], memory_bytes: int | None = None) -> None:
        self._state = state
        self._run = state / "run"
        self._on_change = on_change
        self._replicas: dict[str, LocalReplica] = {}
        self._times = LoadTimes(state)
        self._started = 0
        self._room = Room(limit=memory_bytes, gpus=gpus_here)
        self._loading = LoadQueue(at_once(cpus()))
        self.turns = Turns()
        """Who gets the room that there is, or that others make."""
        self._lines = WeakValueDictionary[tuple[str, Need], Line]()
        self._announced: Claim | None = None
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Inside the event loop; what a killed instance left behind is removed."""
        shutil.rmtree(self._run, ignore_errors=True)
        self._session = aiohttp.ClientSession(trust_env=False)
        self._announced = self._room.announce(self._state)

    async def close(self) -> None:
        """After all replicas ended."""
        if self._announced is not None:
            self._announced.release()
        if self._session is not None:
            await self._session.close()

    def memory(self) -> Memory:
        """What there is now, and who has it. Blocks for milliseconds."""
        return self._room.memory()

    def replicas(self) -> Sequence[ReplicaFacts]:
        return [replica.facts for replica in self._replicas.values()]

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
        assert self._session is not None
        self._started += 1
        name = f"{service}-{self._started}"
        self._replicas[name] = LocalReplica(
            ReplicaFacts(name, slot),
            settings,
            self._run / str(self._started),
            log_file(self._state, service, slot),
            self._session,
            self._on_change,
            self._line(service, Need(real(settings.model_path), memory_bytes, gpus)),
            self._loading,
            self._times,
            adapters,
            tried,
        )
        return name

    def adapt(self, replica: str, adapters: Sequence[Adapter], tried: Tried = NOTHING) -> None:
        if found := self._replicas.get(replica):
            found.adapt(adapters, tried)

    def _line(self, service: str, need: Need) -> Line:
        """Where replicas that ask for the same wait together."""
        alike = service, need

        def claim(replica: str) -> Claim | FailureRecord:
            return self._room.claim(service, need, replica, lambda: self.turns.ahead_of(service))

        line = self._lines.get(alike) or Line(claim)
        self._lines[alike] = line
        return line

    async def stop(self, replica: str, *, force: bool = False) -> None:
        if found := self._replicas.get(replica):
            await found.stop(force=force)
            self._replicas.pop(replica, None)
            self._on_change()
