"""Looks at every service every few seconds, and writes a row of its history."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping

from llmservice_console.history import MOST_SERVICES, STEP_SECONDS, History, Moved, Times
from llmservice_gateway.console.engine_numbers import Numbers, ask_all
from llmservice_gateway.console.facts import Facts
from llmservice_gateway.journal import Entry
from llmservice_gateway.rooms import Rooms
from llmservice_gateway.routing import Backend

MOST_ASKED = 64
"""Replicas that are asked in one step; of more, those that come first tell for all."""
EARLY_SECONDS = 0.5
"""A clock in milliseconds ends a sleep before its time: a step that is so near is the one that was looked at."""
FAILED = 500
"""Answers from this status on count as failed."""

logger = logging.getLogger(__name__)


def until_next(now: float) -> float:
    """Seconds from Unix time `now`, when a look has ended, to the next one."""
    left = STEP_SECONDS - now % STEP_SECONDS
    return left if left > EARLY_SECONDS else left + STEP_SECONDS


class _Counted:
    """Requests of one service that ended since the last row."""

    def __init__(self) -> None:
        self.first, self.gap = Times(), Times()
        self.requests = self.failed = self.tokens = 0


class Sampler:
    """`over` hears of every request; `run` writes rows to `history` until it is cancelled."""

    def __init__(self, rooms: Rooms, facts: Callable[[], Facts], wall: Callable[[], float] = time.time) -> None:
        self.history = History()
        self._rooms = rooms
        self._facts = facts
        self._wall = wall
        self._counted: dict[str, _Counted] = {}
        self._wanted: dict[str, int | None] = {}
        self._generated: dict[str, float] = {}
        """Replica -> tokens that it had generated when it was asked at the last look."""

    def over(self, entry: Entry) -> None:
        """A request has ended."""
        if not entry.service:
            return
        found = self._counted.get(entry.service)
        if found is None:
            if len(self._counted) >= MOST_SERVICES:
                return
            found = self._counted[entry.service] = _Counted()
        found.requests += 1
        found.failed += entry.status >= FAILED
        found.tokens += entry.answer_tokens
        if entry.batch:
            return  # it waits for others: its times say nothing of what people wait
        if entry.first and entry.status < 400:
            found.first.add(entry.first - entry.came)
        if entry.chunks:
            found.gap.add((entry.last - entry.first) / entry.chunks)

    async def run(self) -> None:
        """Until cancelled. A bug of ours costs one row."""
        while True:
            await asyncio.sleep(until_next(self._wall()))
            try:
                await self.look()
            except Exception:
                logger.exception("looking at services for the console")

    async def look(self) -> None:
        """One row of each service; of too many, of those that have requests, and of some others."""
        backends, facts = self._rooms.table.backends, self._facts()
        busy = {name for name in backends if self._rooms.busy(name) or name in self._counted}
        replicas = [replica for name in busy for replica in backends[name].replicas]
        told = await ask_all(replicas[:MOST_ASKED])
        at = round(self._wall())
        self.history.keep(backends)
        counted, self._counted = self._counted, {}
        wanted = {}
        for name in sorted(backends, key=lambda name: name not in busy)[:MOST_SERVICES]:
            now = wanted[name] = facts.wanted(name)
            row = self._row(backends[name], counted.get(name) or _Counted(), told)
            self.history.add(name, at, {**row, "wanted": math.nan if now is None else now})
            before = self._wanted.get(name)
            if before is not None and now is not None and before != now:
                self.history.moved(name, self._move(name, at, before, now))
        self._generated = {name: said.generated for name, said in told.items()}
        self._wanted = wanted

    def _row(self, backend: Backend, counted: _Counted, told: Mapping[str, Numbers]) -> dict[str, float]:
        """What a replica was asked for and did not tell is not known of its service: a gap, and no dip."""
        demand, (held, in_flight) = self._rooms.demand(backend.full_name), self._facts().elsewhere(backend.full_name)
        said = [told[one.name] for one in backend.replicas if one.name in told]
        runs = bool(held or in_flight or self._rooms.busy(backend.full_name))
        untold = math.nan if (runs or counted.requests) and len(said) < len(backend.replicas) else 0.0
        first, gap = counted.first.taken(), counted.gap.taken()
        return {
            "held": demand.held + held,
            "inFlight": demand.in_flight + in_flight,
            "running": sum((one.running for one in said), untold),
            "waiting": sum((one.waiting for one in said), untold),
            "kvUsed": max((one.kv_used for one in said), default=math.nan),
            "tokensPerSecond": self._tokens(backend, counted, told, runs) / STEP_SECONDS,
            "ttft50": first[0],
            "ttft95": first[1],
            "gap50": gap[0],
            "gap95": gap[1],
            "ready": len(backend.replicas),
            "requests": counted.requests,
            "failed": counted.failed,
        }

    def _tokens(self, backend: Backend, counted: _Counted, told: Mapping[str, Numbers], runs: bool) -> float:
        """What its replicas generated since the last look. Where one did not tell, now or then: what the answers had
        that ended meanwhile; NaN where none did, and some go on."""
        names = [replica.name for replica in backend.replicas]
        grown = [told.get(name, Numbers()).generated - self._generated.get(name, math.nan) for name in names]
        if grown and all(more >= 0 for more in grown):
            return sum(grown)
        return math.nan if names and runs and not counted.tokens else counted.tokens

    def _move(self, service: str, at: int, before: int, wanted: int) -> Moved:
        """Another number of replicas is wanted than at the last look, and why."""
        scaling = ((self._facts().object(service) or {}).get("status") or {}).get("scaling") or {}
        if scaling.get("desiredReplicas") == wanted:
            return Moved(at, before, wanted, str(scaling.get("reason", "")), str(scaling.get("message", "")))
        return Moved(at, before, wanted, "Scaled", f"spec.replicas became {wanted}.")
