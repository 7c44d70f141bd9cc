"""Who gets which place when: requests wait here, not at replicas, until one of these has room for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from llmservice_gateway.balance import choose
from llmservice_gateway.demand import Demand
from llmservice_gateway.errors import (
    adapter_failed,
    adapter_not_loaded,
    gateway_draining,
    held_too_long,
    model_gone,
    not_ready,
    replica_lost,
    too_many_held,
)
from llmservice_gateway.naming import Asked
from llmservice_gateway.places import Capacity, Size, has_room
from llmservice_gateway.planned import Given, answer_seconds
from llmservice_gateway.reach import Reach
from llmservice_gateway.room import NOTHING, Place, Room, Ticket
from llmservice_gateway.routing import Adapter, Backend, Replica, Table
from llmservice_runtime.wire.errors import ApiError

AGAIN_SECONDS = 1.0
"""A request that no replica is left for asks those again that failed it, after so long: they may have come back."""


class Rooms:
    """All services' waiting rooms, on one event loop.

    `waits` is called with a service's name each time that a request of it has to wait. `share` gives the part of each
    of a service's replicas that is this gateway's own, while others give them requests too.
    """

    def __init__(self) -> None:
        self.table = Table()
        self.reach = Reach()
        self.waits: Callable[[str], None] = lambda service: None
        self.share: Callable[[str], float] = lambda service: 1.0
        self._draining = False
        self._rooms: dict[str, Room] = {}
        self._rests: asyncio.Event | None = None
        """Set once nothing is left; None = nobody waits for that."""

    def publish(self, table: Table) -> None:
        """Route by `table` from now on; what waits is looked at at once."""
        self.table = table
        self.reach.keep({replica.name for backend in table.backends.values() for replica in backend.replicas})
        self._rooms = {name: room for name, room in self._rooms.items() if name in table.backends or not room.empty}
        for name, room in self._rooms.items():
            here = {replica.name for replica in self._replicas(name)}
            for ticket in room.tickets:
                ticket.avoid &= here  # one that comes back is another one
            self._give(room)

    def look_again(self) -> None:
        """Something that `share` goes by has changed: who waits may have a place now."""
        for room in self._rooms.values():
            self._give(room)

    @property
    def draining(self) -> bool:
        """Nothing new is taken, and nothing waits."""
        return self._draining

    def drain(self) -> None:
        """Refuse what waits and what comes."""
        self._draining = True
        for room in self._rooms.values():
            self._give(room)

    @property
    def running(self) -> int:
        """Requests that have a place."""
        return sum(room.running for room in self._rooms.values())

    @property
    def held(self) -> int:
        """Requests that wait for one."""
        return sum(room.waiting for room in self._rooms.values())

    def in_flight(self, replica: str) -> int:
        """Requests that a replica answers now."""
        return sum(room.requests.get(replica, 0) for room in self._rooms.values())

    async def wait_idle(self) -> None:
        """Until no request has a place or waits for one."""
        while not self._is_idle:
            self._rests = self._rests or asyncio.Event()
            await self._rests.wait()

    def others(self, ticket: Ticket, besides: Collection[str] = ()) -> bool:
        """Whether a ready replica is left that could answer, and has not failed it."""
        backend = self.table.backends.get(ticket.service)
        return backend is not None and any(
            replica.name not in ticket.avoid and replica.name not in besides
            for replica in backend.having(ticket.adapter)
        )

    @property
    def services(self) -> list[str]:
        """Full names of all that are served, or have requests still."""
        return sorted({*self.table.backends, *(name for name, room in self._rooms.items() if not room.empty)})

    @property
    def asked(self) -> list[str]:
        """Full names of those that had a request."""
        return list(self._rooms)

    def busy(self, service: str) -> int:
        """Requests of a service that wait or have a place."""
        room = self._rooms.get(service)
        return room.busy if room else 0

    def demand(self, service: str) -> Demand:
        """What is asked of a service now."""
        room, now = self._rooms.get(service) or Room(service), asyncio.get_running_loop().time()
        tickets = room.tickets
        held_tokens = sum(room.learned.prompt_tokens(ticket.asked) for ticket in tickets)
        return Demand(
            service=service,
            held=len(tickets),
            in_flight=room.running,
            waiting_tokens=held_tokens + sum(place.given.prompt for place in room.unbegun),
            held_tokens=held_tokens,
            in_flight_tokens=sum(load.tokens for load in room.loads.values()),
            arrivals_per_second=room.arrivals.per_second(now),
            tokens_per_second=room.arrived_tokens.per_second(now),
            mean_requests=room.mean.of_late(now),
            oldest_seconds=max((now - ticket.since for ticket in tickets), default=0.0),
            **room.totals,
        )

    def loads(self, service: str) -> dict[str, Size]:
        """What each ready replica has."""
        room = self._rooms.get(service) or Room(service)
        return {replica.name: room.loads.get(replica.name, Size()) for replica in self._replicas(service)}

    def arrived(self, service: str, asked: Asked) -> None:
        """A request came; once for each, however often it is passed on."""
        room, now = self._room(service), asyncio.get_running_loop().time()
        tokens = room.learned.prompt_tokens(asked)
        room.arrivals.add(1, now)
        room.arrived_tokens.add(tokens, now)
        room.totals["arrivals"] += 1
        room.totals["arrived_tokens"] += tokens

    def answered(self, service: str, asked: Asked, usage: tuple[int, int]) -> None:
        """An engine counted (prompt, answer) tokens of a request."""
        room = self._room(service)
        room.learned.saw(asked, usage)
        room.totals["answered_tokens"] += usage[1]

    def begun(self, place: Place) -> None:
        """Its answer has begun: the prompt is computed."""
        self._room(place.backend.full_name).unbegun.discard(place)

    def answer_seconds(self, place: Place) -> float:
        """How long its answer may take to begin, by what is known now."""
        backend = self.table.backends.get(place.backend.full_name, place.backend)
        waiting = 0
        for one in backend.replicas:
            if one.name == place.replica.name:
                waiting = one.waiting
        return answer_seconds(place.given, place.backend.speed, place.backend.capacity, backend.context_tokens, waiting)

    async def place(self, ticket: Ticket, *, again: bool = False) -> Place:
        """A place, which the caller has to `leave`. ApiError when there can't be one, or none came in time.

        `again`: it had a place and lost it by no fault of its own, so it goes before its client's others.
        """
        room = self._room(ticket.service)
        if not room.before(ticket) and (at_once := self._at_once(room, ticket)):
            return at_once
        loop = asyncio.get_running_loop()
        ticket.place, ticket.since, ticket.client = loop.create_future(), loop.time(), ticket.who()
        room.queue(ticket).push(ticket.client, ticket, first=again)
        room.counted(loop.time())
        try:
            self._give(room)
            if not ticket.place.done():
                self._bound(room, ticket, again=again)
                self.waits(ticket.service)
                await self._wait(room, ticket)
            return ticket.place.result()
        except BaseException:
            if ticket.place.done() and not ticket.place.exception():
                self.leave(ticket.place.result())  # it came together with the end of its client
            raise
        finally:
            if not ticket.place.done():
                room.queue(ticket).remove(ticket.client, ticket)
                ticket.place.cancel()
            room.counted(loop.time())
            self._rest()

    def _at_once(self, room: Room, ticket: Ticket) -> Place | None:
        """A place that nobody else waits for, as nearly all are; None = there is none. ApiError as `place`."""
        if (why := self._in_vain(ticket)) is not None:
            raise why
        place = self._find(room, ticket)
        if place is not None:
            room.take(place, ticket)
            room.counted(asyncio.get_running_loop().time())
        return place

    def _bound(self, room: Room, ticket: Ticket, *, again: bool) -> None:
        backend = self.table.backends[ticket.service]
        waiting = room.before(ticket)
        if waiting > backend.max_held and not again:
            rate = room.answers.per_second(asyncio.get_running_loop().time())
            raise too_many_held(backend, round(waiting / rate) if rate else 10)

    async def _wait(self, room: Room, ticket: Ticket) -> None:
        loop = asyncio.get_running_loop()
        assert ticket.place is not None
        beat = loop.time() + ticket.beat_seconds
        while not ticket.place.done():
            alone = bool(ticket.avoid) and not self.others(ticket)
            until = min(beat, ticket.deadline, loop.time() + AGAIN_SECONDS if alone else beat)
            await asyncio.wait({ticket.place}, timeout=max(0.0, until - loop.time()))
            if ticket.place.done():
                return
            if loop.time() >= ticket.deadline:
                raise self._too_late(ticket, loop.time() - ticket.since)
            if alone:
                ticket.avoid.clear()
                self._give(room)
            if loop.time() >= beat:
                beat = loop.time() + ticket.beat_seconds
                await ticket.beat()

    def _too_late(self, ticket: Ticket, seconds: float) -> ApiError:
        backend = self.table.backends.get(ticket.service)
        if backend is None:
            return model_gone(ticket.service)
        if not backend.replicas:
            return not_ready(backend)
        if not backend.having(ticket.adapter):
            return adapter_not_loaded(backend, ticket.adapter, seconds)
        return held_too_long(backend, seconds) if self.others(ticket) else replica_lost(backend)

    def _give(self, room: Room) -> None:
        """Places to whoever is next, as long as there are any; the reason to those that wait in vain."""
        if not room.waiting:
            return
        for ticket in room.tickets:
            why = self._in_vain(ticket)
            if why is None:
                if self._adapters(room.service):
                    continue  # others wait for what does not come
                break
            assert ticket.place is not None
            room.queue(ticket).remove(ticket.client, ticket)
            ticket.place.set_exception(why)
        found: list[Place] = []

        def fits(ticket: Ticket) -> bool:
            place = self._find(room, ticket)
            found[:] = [place] if place else []
            return place is not None

        while (next_one := room.live.take(fits) or (None if room.live else room.batch.take(fits))) is not None:
            (place,) = found
            assert next_one.place is not None
            room.take(place, next_one)
            next_one.place.set_result(place)

    def _in_vain(self, ticket: Ticket) -> ApiError | None:
        """Why waiting for a place does not help."""
        backend = self.table.backends.get(ticket.service)
        if self._draining:
            return gateway_draining()
        if backend is None:  # removed since the request came
            return model_gone(ticket.service)
        if ticket.adapter and not backend.having(ticket.adapter):
            adapter = backend.adapter(ticket.adapter)
            if adapter is None:
                return model_gone(f"{ticket.service}:{ticket.adapter}")
            if adapter.problem:
                return adapter_failed(backend, adapter)
        unready = backend.unready
        comes = backend.replicas or (unready.held and not unready.final and backend.max_held)
        return None if comes else not_ready(backend)

    def _find(self, room: Room, ticket: Ticket) -> Place | None:
        backend = self.table.backends[ticket.service]
        size = room.learned.size(ticket.asked, backend.context_tokens)
        loads = {replica.name: room.loads.get(replica.name, NOTHING) for replica in backend.replicas}
        own = backend.capacity.part(self.share(ticket.service))
        free = {
            replica.name: replica
            for replica in self._asked(backend, ticket)
            if self._takes(room, own, replica, loads[replica.name], ticket, size)
        }
        if len(free) == 1:
            name: str | None = next(iter(free))
        else:
            tokens = {name: load.tokens for name, load in loads.items()}
            name = choose(ticket.asked.key, tokens, size.tokens, list(free))
        if name is None:
            return None
        given = Given(ticket.asked, size, room.learned.prompt_tokens(ticket.asked), loads[name])
        return Place(backend, free[name], given, ticket.batch)

    def _takes(self, room: Room, own: Capacity, replica: Replica, load: Size, ticket: Ticket, size: Size) -> bool:
        """Whether a replica is given it now. Batch work there makes way for what is not."""
        if ticket.batch:
            return has_room(own.for_batch, load, size, replica.waiting)
        name, waiting = replica.name, replica.waiting
        if name in room.batch_requests:
            load, waiting = load - room.batch_loads[name], waiting - room.batch_requests[name]
        return has_room(own, load, size, waiting)

    def _asked(self, backend: Backend, ticket: Ticket) -> Sequence[Replica]:
        """Those that have not failed the request; of these, where there are any, those that can be connected to."""
        left: Sequence[Replica] = backend.having(ticket.adapter)
        if ticket.avoid:
            left = [replica for replica in left if replica.name not in ticket.avoid]
        if self.reach.failures:
            now = asyncio.get_running_loop().time()
            left = [replica for replica in left if not self.reach.lost(replica.name, now)] or left
        return left

    def leave(self, place: Place) -> None:
        """A request has its place no more; what waits gets it."""
        room = self._room(place.backend.full_name)
        room.leave(place)
        now = asyncio.get_running_loop().time()
        room.answers.add(1, now)
        room.counted(now)
        self._give(room)
        self._rest()

    @property
    def _is_idle(self) -> bool:
        return all(room.empty for room in self._rooms.values())

    def _rest(self) -> None:
        if self._rests is not None and self._is_idle:
            self._rests.set()
            self._rests = None

    def _room(self, service: str) -> Room:
        room = self._rooms.get(service)
        if room is None:
            room = self._rooms[service] = Room(service)
        return room

    def _adapters(self, service: str) -> tuple[Adapter, ...]:
        backend = self.table.backends.get(service)
        return backend.adapters if backend else ()

    def _replicas(self, service: str) -> tuple[Replica, ...]:
        backend = self.table.backends.get(service)
        return backend.replicas if backend else ()
