"""The running instance: services on this machine's substrate, behind one gateway. Everything else asks it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmservice_api.labels import aliases_of
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.local.console import LocalFacts
from llmservice_cli.local.giving_way import Turn, Turns
from llmservice_cli.local.holds import Memory, Need
from llmservice_cli.local.line import ROOM_SECONDS
from llmservice_cli.local.machine import LocalSubstrate, log_file
from llmservice_cli.local.order import Order
from llmservice_cli.local.room import real
from llmservice_cli.local.scaler import LOOK_SECONDS, Scaler
from llmservice_cli.local.service import ServiceControl, being_stopped
from llmservice_cli.local.sharer import Sharer, Sharing
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_gateway.app import Gateway
from llmservice_gateway.console.engines import EnginesTable
from llmservice_gateway.routing import LATEST, Table
from llmservice_runtime.contract.errors import UserError

log = logging.getLogger(__name__)

LOOK = (sys.executable, "-P", "-m", "llmservice_cli.local.look")
"""What reads models for the console's page."""
REST = 4
"""Following replicas takes a fifth of the time at most, however many of them change."""


class Instance:
    """Lives on one event loop. `url` is the gateway's, without a path; `changed` tells every change of any service.
    `memory_bytes` is what its replicas may have together; None = what the machine has. It `stays` without a service,
    for those who launch one by a request."""

    def __init__(
        self,
        state: Path,
        url: str,
        gateway: Gateway,
        changed: Callable[[], None],
        memory_bytes: int | None = None,
        *,
        stays: bool = False,
    ) -> None:
        self.url = url
        self._stays = stays
        self.gateway = gateway
        self.version = 0
        self.ended = asyncio.Event()
        """Nothing is left to serve and nobody prepares anything."""
        self._state = state
        self._changed = changed
        self._memory_bytes = memory_bytes
        self._substrate = LocalSubstrate(state, self._follow_soon, memory_bytes)
        self._following: asyncio.TimerHandle | None = None
        self._rested = 0.0
        self._services: dict[str, ServiceControl] = {}
        self._ending = set[ServiceControl]()
        """Those whose last answers run out; of some another one has the name by now."""
        self._next_version = asyncio.Event()
        self._scalers: dict[str, Scaler] = {}
        self._sharer = Sharer()
        if gateway.console:
            gateway.console.facts = LocalFacts(self)
            gateway.console.engines = EnginesTable(LOOK, private=gateway.private)
        self._look_again = 0.0
        """When whoever waits in vain is looked at again."""

    def open(self) -> None:
        """Inside the event loop."""
        self._substrate.open()
        self._scaling = asyncio.create_task(self._scale_by_demand(), name="scaling")

    async def close(self) -> None:
        """After `shutdown`."""
        self._scaling.cancel()
        if self._following is not None:
            self._following.cancel()
        await self._substrate.close()

    def apply(self, order: Order) -> str:
        """Want this service in this way from now on; what that means in one word (ServiceControl.apply)."""
        name = order.service.full_name
        control = self._services.get(name)
        if control is None or control.stopping:  # one that stops drains on beside its successor
            control = self._services[name] = ServiceControl(order, self._substrate, self.gateway.proxy.in_flight)
        result = control.apply(order)
        self._follow()
        return result

    def keep(self, order: Order) -> str:
        """`unchanged` or `scaled` when the order asks for what runs already; empty when it has to be prepared."""
        control = self._services.get(order.service.full_name)
        result = control.keep(order) if control and not control.stopping else ""
        self._follow()
        return result

    def scale(self, name: str, replicas: int) -> str:
        """Run so many replicas of a service by full name; `unchanged` or what ServiceControl.scale says."""
        result = self._services[name].scale(replicas)
        self._follow()
        return result

    def rest(self, name: str) -> str:
        """Have a service by full name leave memory until it is asked for again: `stopped`, `idle` when it has already,
        or `busy` while it answers. UserError where it is not to rest."""
        control = self._services[name]
        order = control.order
        if control.stopping:
            raise being_stopped(name)
        if order.settings is None:
            raise UserError(f"{name} is not served yet.", f"llmservice down {name} gives it up.")
        if not order.managed or self._keeps(name, control) or name not in self._scalers:
            raise UserError(
                f"{name} is to stay in memory: its scaling has no minReplicas: 0 now.",
                f"llmservice down {name} ends it, and whoever asks for it then is told that there is none.",
            )
        if not order.replicas:
            return "idle"
        demand = self.gateway.proxy.rooms.demand(name)
        if demand.held or demand.in_flight:
            return "busy"
        control.decided(0)
        control.told(dataclasses.replace(control.turn, rested="It was stopped"))
        self._scalers[name].gave_way(order.replicas, 0, "somebody stopped it", time.monotonic(), datetime.now(UTC))
        self._follow()
        return "stopped"

    def explain(self, name: str) -> dict[str, Any] | None:
        """What was decided by demand of a service by full name, and why; None when nothing was."""
        scaler = self._scalers.get(name)
        if scaler is None or not scaler.said:
            return None
        return scaler.explain(name, time.monotonic(), *self._services[name].shares)

    def object(self, name: str) -> dict[str, Any] | None:
        """The LLMService of a full name with its status, as `kubectl get -o json` would show it."""
        control = self._services.get(name)
        return self._object(control, time.time()).to_manifest() if control else None

    def wanted(self, name: str) -> int | None:
        """Replicas that there are to be of a service by full name; None of one that is gone."""
        control = self._services.get(name)
        return control.order.replicas if control else None

    def has(self, name: str) -> bool:
        """Whether there is a service of this full name, and nobody ended it."""
        control = self._services.get(name)
        return control is not None and not control.stopping

    def replicas(self, name: str) -> list[ReplicaFacts]:
        """Those of a service by full name, the serving ones first."""
        control = self._services.get(name)
        return control.replicas if control else []

    def forget_unprepared(self, names: Sequence[str]) -> None:
        """Whoever prepared these services is gone: the ones without anything to run are removed."""
        for name in names:
            control = self._services.get(name)
            if control is not None and control.unprepared:
                del self._services[name]
        self._follow()
        self._end_if_idle()

    def known(self, name: str) -> list[str]:
        """Full names that `name` (full, bare, or an alias) means."""
        own = [full for full in self._services if name in (full, full.partition("/")[2])]
        return own or [full for alias, full in self._aliases().items() if name.removesuffix(LATEST) == alias]

    def _aliases(self) -> dict[str, str]:
        """Other names of services; of two that have the same the one that came first is meant."""
        found: dict[str, str] = {}
        for full, control in self._services.items():
            for alias in aliases_of({"annotations": control.order.service.metadata.annotations}):
                found.setdefault(alias, full)
        return found

    async def stop(self, names: Sequence[str], *, force: bool = False) -> None:
        """Drain and remove services by full name."""
        controls = {name: self._services[name] for name in names if name in self._services}
        ends = asyncio.gather(*(control.stop(force=force) for control in controls.values()))
        self._ending.update(controls.values())
        self._follow()
        try:
            await ends
        finally:
            self._ending.difference_update(controls.values())
        for name, control in controls.items():
            if self._services.get(name) is control:
                del self._services[name]
        self._follow()
        self._end_if_idle()

    async def shutdown(self, *, force: bool = False) -> None:
        """Refuse new requests, let the running ones finish up to drainSeconds, end everything."""
        self.gateway.proxy.drain()
        replaced = [control.stop(force=force) for control in self._ending - set(self._services.values())]
        await asyncio.gather(self.stop(list(self._services), force=force), *replaced)

    @property
    def running(self) -> int:
        """Requests in flight."""
        return self.gateway.proxy.running

    def snapshot(self) -> dict[str, Any]:
        """Everything `ps` shows, as JSON data."""
        now = time.time()
        return {
            "version": self.version,
            "pid": os.getpid(),
            "url": f"{self.url}/v1",
            "page": f"{self.url}/" if self.gateway.console else None,
            "memoryBytes": self._memory_bytes,
            "services": [self._describe(control, now) for control in self._services.values()],
        }

    async def wait_newer(self, version: int, seconds: float) -> None:
        """Until something changed after `version`, at most so long."""
        if version == self.version:
            try:
                await asyncio.wait_for(self._next_version.wait(), seconds)
            except TimeoutError:
                return

    def _end_if_idle(self) -> None:
        if not (self._services or self._stays):
            self.ended.set()

    def _object(self, control: ServiceControl, now: float) -> LLMService:
        full = control.order.service.full_name
        scaler = self._scalers.get(full)
        return control.object(f"{self.url}/{full}/v1", now, scaler.told if scaler else None)

    def _describe(self, control: ServiceControl, now: float) -> dict[str, Any]:
        full = control.order.service.full_name
        scaler = self._scalers.get(full)
        replicas = []
        for facts in control.replicas:
            body = dataclasses.asdict(dataclasses.replace(facts, load=None, adapters=()))  # which the status has
            body["log"] = str(log_file(self._state, full, facts.slot))
            replicas.append(body)
        return {
            "object": self._object(control, now).to_manifest(),
            "base": control.order.base,
            "engine": control.order.settings.engine if control.order.settings else None,
            **({"adaptable": order.to_body()} if (order := control.adaptable) else {}),
            "settled": control.settled,
            "stopping": control.stopping,
            "scaling": scaler.said if scaler else None,
            "replicas": replicas,
        }

    async def _scale_by_demand(self) -> None:
        while True:
            try:
                self._decide(time.monotonic(), datetime.now(UTC))
                await self._share()
            except Exception:  # a bug of ours costs one look
                log.exception("deciding how many replicas there are to be")
            await asyncio.sleep(LOOK_SECONDS)

    def _decide(self, now: float, wall: datetime) -> None:
        managed = {name: control for name, control in self._services.items() if control.scales}
        self._scalers = {name: self._scalers.get(name) or Scaler() for name in managed}
        changed = False
        for name, control in managed.items():
            demand = self.gateway.proxy.rooms.demand(name)
            decision = self._scalers[name].decide(control.order, control.replicas, demand, now, wall)
            if control.order.managed and decision.replicas != control.order.replicas:
                control.decided(decision.replicas)
                changed = True
        if changed:
            self._follow()

    async def _share(self) -> None:
        """Whoever is asked for and finds no room gets it from those that can do without."""
        services, now = self._shared(), time.monotonic()
        self._sharer.saw(services, now)
        turns, waiting = Turns(), {one.service for one in services if one.waits}
        if waiting and waiting == self._substrate.turns.hopeless and now < self._look_again:
            return
        if waiting:
            self._look_again = now + ROOM_SECONDS
            memory = await asyncio.to_thread(self._substrate.memory)
            services = self._shared()
            turns = self._sharer.turns(services, memory, time.monotonic())
            behind = self._behind_themselves(services, turns, memory)
            turns = dataclasses.replace(turns, hopeless=turns.hopeless - behind)
        self._substrate.turns = turns
        changed = [self._turn(one, turns, time.monotonic(), datetime.now(UTC)) for one in services]
        if any(changed):
            self._follow()

    def _behind_themselves(self, services: Sequence[Sharing], turns: Turns, memory: Memory) -> frozenset[str]:
        """Changed services whose old version has the GPUs that the new one waits for, and nobody else can make room:
        the old one is drained first."""
        behind = set()
        for one in services:
            own = {facts.name for facts in one.replicas if not facts.held}
            alone = one.changing and one.service in turns.hopeless and not memory.short(one.need)
            if alone and memory.without(own).fits(one.need):
                log.info("%s: what serves is drained: it has the GPUs of the changed version", one.service)
                self._services[one.service].drain_for_change()
                behind.add(one.service)
        return frozenset(behind)

    def _shared(self) -> list[Sharing]:
        return [
            Sharing(
                service=name,
                need=Need(real(order.settings.model_path), order.memory_bytes, order.gpus),
                keeps=self._keeps(name, control),
                replicas=control.replicas,
                demand=self.gateway.proxy.rooms.demand(name),
                in_flight=self.gateway.proxy.in_flight,
                waits=control.waits_for_room and control.order.settings is not None,
                changing=control.changing,
            )
            for name, control in self._services.items()
            if not control.stopping and (order := control.newest) is not None and order.settings is not None
        ]

    def _keeps(self, name: str, control: ServiceControl) -> int | None:
        """Replicas that stay: all of what serves while its newest manifest failed, as nobody would start it again."""
        if control.order.settings is None:
            return None
        return self._scalers[name].keeps(control.order) if name in self._scalers else control.order.keeps

    def _turn(self, one: Sharing, turns: Turns, now: float, wall: datetime) -> bool:
        """Carry out what was decided of one service; whether anything changed."""
        name, control = one.service, self._services[one.service]
        before, rested = control.order.replicas, control.turn.rested
        going = {facts.name: turns.goes[facts.name] for facts in one.replicas if facts.name in turns.goes}
        if going:
            rested = f"It gave way to {', '.join(sorted(set(going.values())))}"
            control.release(list(going))
        elif one.at_rest:
            rested = "It found no room beside what runs, and nobody asks for it now"
            control.decided(0)
        if control.order.replicas != before:
            self._scalers[name].gave_way(before, control.order.replicas, _in_a_line(rested), now, wall)
        elif before:
            rested = ""
        closed = {facts.name: turns.closed[facts.name] for facts in one.replicas if facts.name in turns.closed}
        told = control.told(Turn(closed, turns.awaited.get(name), name in turns.hopeless, rested))
        return told or control.order.replicas != before

    def _follow_soon(self) -> None:
        """A replica changed; others that do until it is followed are followed with it."""
        if self._following is None:
            self._following = asyncio.get_running_loop().call_at(self._rested, self._follow)

    def _follow(self) -> None:
        """Something changed: let generations take over, route anew, tell those who wait."""
        if self._following is not None:
            self._following.cancel()
            self._following = None
        started = time.monotonic()
        for control in self._services.values():
            control.settle()
        self.gateway.proxy.publish(
            Table({name: control.backend() for name, control in self._services.items()}, self._aliases())
        )
        self.version += 1
        waiting, self._next_version = self._next_version, asyncio.Event()
        waiting.set()
        self._changed()
        self._rested = asyncio.get_running_loop().time() + REST * (time.monotonic() - started)


def _in_a_line(sentence: str) -> str:
    """Of a sentence what can stand after a colon."""
    return sentence[:1].lower() + sentence[1:]
