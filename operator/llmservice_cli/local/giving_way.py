"""Who gives way when not all services fit on this machine at once. Pure.

A service that is asked for and finds no room gets it from those whose replicas nobody needs to run: the ones that have
rested longest go first. Whoever has only just come stays for a while, and nobody goes in the middle of its work. So
that two busy services take turns, the one whose time is over gets no new work while another waits: it ends what it has,
and then it goes. Nobody goes in vain: not before all that have to can go, and not where even that is not enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from llmservice_cli.local.holds import Memory, Need

LEAST_SECONDS, MOST_SECONDS = 5.0, 60.0


def residency(load_seconds: float | None) -> float:
    """How long a replica that is ready stays at least: as long as loading it took, within 5 to 60 s. However services
    alternate, the machine then spends no more than about half of its time on loading."""
    return min(MOST_SECONDS, max(LEAST_SECONDS, load_seconds or 0.0))


@dataclass(frozen=True, slots=True)
class Resident:
    """A replica that has memory, and GPUs. `stays_until` and `used_at` are on the clock of `now`."""

    replica: str
    service: str
    busy: bool = False
    stays_until: float = 0.0
    """Infinity while it starts."""
    used_at: float = 0.0
    """When its service last had work."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A service that is asked for, and has no replica that found room."""

    service: str
    need: Need
    """Of one replica."""
    since: float
    stays: bool = False
    """Once it runs, it gives way to nobody."""


@dataclass(frozen=True, slots=True)
class Turns:
    """What is to happen. Replicas and services by name."""

    goes: Mapping[str, str] = field(default_factory=dict)
    """Replicas that are to be stopped now -> the service that gets their room."""
    closed: Mapping[str, str] = field(default_factory=dict)
    """Replicas that get no new work -> the service that waits for them; those that go are among them."""
    awaited: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Services that wait and will have room -> services that make it; none where it comes free by itself."""
    hopeless: frozenset[str] = frozenset()
    """Services that wait in vain: what can go is not enough."""
    needs: tuple[tuple[str, Need], ...] = ()
    """What those in `awaited` take, who waited longest first."""

    def ahead_of(self, service: str) -> tuple[Need, ...]:
        """What those take that come before it; where it does not wait, all of them."""
        names = [name for name, _ in self.needs]
        count = names.index(service) if service in names else len(names)
        return tuple(need for _, need in self.needs[:count])


@dataclass(frozen=True, slots=True)
class Turn:
    """What one service is told of it."""

    closed: Mapping[str, str] = field(default_factory=dict)
    """Its replicas that get no new work -> the service that waits for them."""
    awaits: tuple[str, ...] | None = None
    """Services that make room for it; None = it does not wait for any, or that is not known yet."""
    hopeless: bool = False
    """It waits in vain."""
    rested: str = ""
    """Why it was stopped, where others wanted its place: a sentence without an end."""


def take_turns(
    waiting: Collection[Waiting], residents: Collection[Resident], keeps: Mapping[str, int], memory: Memory, now: float
) -> Turns:
    """Who goes, who waits for whom, and who waits in vain. `keeps`: replicas of a service that stay whatever others
    need. `memory` counts what is ending already as free."""
    goes: dict[str, str] = {}
    closed: dict[str, str] = {}
    awaited: dict[str, tuple[str, ...]] = {}
    hopeless: set[str] = set()
    needs: list[tuple[str, Need]] = []
    left, lasting = list(residents), memory
    for one in sorted(waiting, key=lambda one: (one.since, one.service)):
        if not lasting.without({other.replica for other in _spare(residents, one, keeps, now)}).fits(one.need):
            hopeless.add(one.service)
            continue
        chosen = _chosen(one, _spare(left, one, keeps, now), memory)
        if chosen is None:  # those before it, which come and go again
            awaited[one.service] = tuple(awaited)
        else:
            left = [resident for resident in left if resident not in chosen]
            memory = memory.without({resident.replica for resident in chosen}).beside(one.service, one.need)
            awaited[one.service] = tuple(dict.fromkeys(resident.service for resident in chosen))
        needs.append((one.service, one.need))
        if one.stays:
            lasting = lasting.beside(one.service, one.need)
        if chosen is not None and all(resident.stays_until <= now for resident in chosen):
            closed |= {resident.replica: one.service for resident in chosen}
            if not any(resident.busy for resident in chosen):
                goes |= {resident.replica: one.service for resident in chosen}
    return Turns(goes, closed, awaited, frozenset(hopeless), tuple(needs))


def _rank(resident: Resident, now: float) -> tuple[float, bool, float, str, str]:
    """Who goes first: whose time is over, the idle before the busy, and of these who rested longest."""
    return max(resident.stays_until, now), resident.busy, resident.used_at, resident.service, resident.replica


def _spare(residents: Collection[Resident], one: Waiting, keeps: Mapping[str, int], now: float) -> list[Resident]:
    """Those that may go for it, in the order in which they would: of each other service all but those that it keeps."""
    others = [resident for resident in residents if resident.service != one.service]
    counts = Counter(resident.service for resident in others)
    spare = []
    for resident in sorted(others, key=lambda other: _rank(other, now)):
        counts[resident.service] -= 1
        if counts[resident.service] >= keeps.get(resident.service, 0):
            spare.append(resident)
    return spare


def _chosen(one: Waiting, spare: Sequence[Resident], memory: Memory) -> list[Resident] | None:
    """As many of `spare` as it takes, and none that it would not take; None when all of them are not enough."""

    def fits(gone: Sequence[Resident]) -> bool:
        return memory.without({resident.replica for resident in gone}).fits(one.need)

    count = next((count for count in range(len(spare) + 1) if fits(spare[:count])), None)
    if count is None:
        return None
    chosen = list(spare[:count])
    for resident in reversed(spare[:count]):
        rest = [other for other in chosen if other is not resident]
        if fits(rest):
            chosen = rest
    return chosen
