"""Who gives way to whom on one machine: properties of the policy, and many services over a while of fake time."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_cli.local.giving_way import (
    LEAST_SECONDS,
    MOST_SECONDS,
    Resident,
    Turns,
    Waiting,
    residency,
    take_turns,
)
from llmservice_cli.local.gpus import NO_GPU, GpuNeed
from llmservice_cli.local.holds import Hold, Memory, Need
from llmservice_cli.local.sharer import Sharer, Sharing
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_gateway.demand import Demand
from llmservice_runtime.machine.machine import Device, Gpu

NAMES = [f"apps/{letter}" for letter in "abcdef"]
NOW = 1000.0
SIZES = st.integers(1, 6)


def need(size: int, gpus: int = 0, model: str = "/m") -> Need:
    return Need(model, size, GpuNeed("X", gpus) if gpus else NO_GPU)


RESIDENTS = st.lists(
    st.tuples(
        st.sampled_from(NAMES[:4]),
        SIZES,
        st.booleans(),
        st.sampled_from([NOW - 5, NOW, NOW + 5, math.inf]),
        st.integers(0, 3).map(float),
        st.integers(0, 2),
    ),
    max_size=6,
)
WAITING = st.lists(
    st.builds(
        Waiting, st.sampled_from(NAMES[4:]), st.builds(need, SIZES, st.integers(0, 3)), st.integers(0, 3).map(float)
    ),
    max_size=2,
    unique_by=lambda one: one.service,
)
KEEPS = st.fixed_dictionaries({name: st.integers(0, 2) for name in NAMES[:4]})


def cards(count: int) -> tuple[Gpu, ...]:
    return tuple(Gpu("X", Device.NVIDIA, 1 << 30, 80, id=f"GPU-{n}", index=n) for n in range(count))


There = tuple[str, int, bool, float, float, int]


def machine(residents: list[There], free: int, free_gpus: int = 0) -> tuple[list[Resident], Memory]:
    found: list[Resident] = []
    holds: list[Hold] = []
    gpus = cards(sum(here[5] for here in residents) + free_gpus)
    left = iter(gpus)
    for number, (service, size, busy, until, used, has) in enumerate(residents):
        found.append(Resident(f"{service}-{number}", service, busy, until, used))
        mine = tuple(next(left).id for _ in range(has))
        holds.append(Hold(service, f"/{service}", size, size, 0, 1, f"{service}-{number}", mine))
    return found, Memory(100, free, tuple(holds), None, 1, gpus)


@given(RESIDENTS, WAITING, KEEPS, st.integers(0, 4), st.integers(0, 2))
def test_who_goes_has_no_work_has_stayed_its_time_and_is_needed(
    residents: list[There], waiting: list[Waiting], keeps: dict[str, int], free: int, cards: int
) -> None:
    there, memory = machine(residents, free, cards)
    turns = take_turns(waiting, there, keeps, memory, NOW)
    known = {one.replica: one for one in there}
    for replica in turns.goes:
        assert not known[replica].busy
    for replica in turns.closed:
        assert known[replica].stays_until <= NOW
    assert turns.goes.keys() <= turns.closed.keys()
    for service, count in keeps.items():
        here = [one for one in there if one.service == service]
        assert len(here) - sum(one.replica in turns.closed for one in here) >= min(count, len(here))
    after, asked = memory, {one.service: one for one in waiting}
    for service, need in turns.needs:
        gone = {replica for replica, other in turns.closed.items() if other == service}
        if not gone:
            break  # it waits for somebody's time to be over, or for one before it
        for replica in gone:  # nobody goes in vain
            assert not after.without(gone - {replica}).fits(need)
        after = after.without(gone)
        assert after.fits(need) and len(after.choose(need.gpus)) == need.gpus.count
        after = after.beside(service, need)
    assert turns.awaited.keys() | turns.hopeless == asked.keys()
    assert not turns.awaited.keys() & turns.hopeless


@given(RESIDENTS, WAITING, KEEPS, st.integers(0, 4), st.randoms())
def test_the_order_in_which_things_are_told_decides_nothing(
    residents: list[There],
    waiting: list[Waiting],
    keeps: dict[str, int],
    free: int,
    dice: random.Random,
) -> None:
    there, memory = machine(residents, free)
    expected = take_turns(waiting, there, keeps, memory, NOW)
    dice.shuffle(there)
    dice.shuffle(waiting)
    assert take_turns(waiting, there, keeps, memory, NOW) == expected


@given(RESIDENTS, WAITING, st.integers(0, 4))
def test_nobody_goes_where_all_together_would_not_be_enough(
    residents: list[There], waiting: list[Waiting], free: int
) -> None:
    there, memory = machine(residents, free)
    for much in (need(100), need(1, 100)):
        turns = take_turns([Waiting(one.service, much, one.since) for one in waiting], there, {}, memory, NOW)
        assert not turns.goes and not turns.closed and turns.hopeless == {one.service for one in waiting}


def test_the_one_that_rested_longest_goes_and_a_busy_one_only_where_no_idle_one_is_enough() -> None:
    there, memory = machine(
        [("apps/a", 4, False, 0.0, 30.0, 0), ("apps/b", 4, False, 0.0, 10.0, 0), ("apps/c", 4, True, 0.0, 0.0, 0)], 0
    )
    small, large = Waiting("apps/e", need(4), 0.0), Waiting("apps/e", need(12), 0.0)
    assert take_turns([small], there, {}, memory, NOW).goes == {"apps/b-1": "apps/e"}
    turns = take_turns([large], there, {}, memory, NOW)
    assert not turns.goes and len(turns.closed) == 3
    assert turns.awaited == {"apps/e": ("apps/b", "apps/a", "apps/c")}


def test_one_large_idle_one_goes_alone_where_a_small_one_would_not_help() -> None:
    there, memory = machine([("apps/a", 1, False, 0.0, 0.0, 0), ("apps/b", 4, False, 0.0, 9.0, 0)], 0)
    assert take_turns([Waiting("apps/e", need(4), 0.0)], there, {}, memory, NOW).goes == {"apps/b-1": "apps/e"}


def test_who_comes_later_does_not_take_what_is_made_for_another() -> None:
    there, memory = machine([("apps/a", 4, False, 0.0, 0.0, 0)], 0)
    turns = take_turns([Waiting("apps/e", need(4), 2.0), Waiting("apps/f", need(3), 1.0)], there, {}, memory, NOW)
    assert turns.goes == {"apps/a-0": "apps/f"} and turns.awaited == {"apps/f": ("apps/a",), "apps/e": ("apps/f",)}
    assert [sum(need.bytes for need in turns.ahead_of(f"apps/{name}")) for name in "fea"] == [0, 3, 7]
    turns = take_turns([Waiting("apps/e", need(4), 2.0), Waiting("apps/f", need(3), 1.0, True)], there, {}, memory, NOW)
    assert turns.hopeless == {"apps/e"}, "the other stays for good"


def test_room_is_made_by_gpus_as_by_memory_and_only_as_much_as_it_takes() -> None:
    there, memory = machine([("apps/a", 1, False, 0.0, 0.0, 0), ("apps/b", 1, False, 0.0, 9.0, 1)], 50)
    assert take_turns([Waiting("apps/e", need(1, 1), 0.0)], there, {}, memory, NOW).goes == {"apps/b-1": "apps/e"}
    two = take_turns([Waiting("apps/e", need(1, 2), 0.0)], there, {}, memory, NOW)
    assert two.hopeless == {"apps/e"} and not two.goes, "there is one"
    there, memory = machine([("apps/a", 1, False, 0.0, 0.0, 1), ("apps/b", 1, True, 0.0, 9.0, 1)], 50)
    waits = take_turns([Waiting("apps/e", need(1, 2), 0.0)], there, {}, memory, NOW)
    assert waits.closed.keys() == {"apps/a-0", "apps/b-1"} and not waits.goes, "one of the two still works"


def test_gpus_of_one_that_stays_are_kept_for_it_and_others_wait_in_vain() -> None:
    there, memory = machine([("apps/a", 1, False, 0.0, 0.0, 1)], 50)
    turns = take_turns(
        [Waiting("apps/e", need(1, 1), 1.0, True), Waiting("apps/f", need(1, 1), 2.0)], there, {}, memory, NOW
    )
    assert turns.goes == {"apps/a-0": "apps/e"} and turns.hopeless == {"apps/f"}


def test_a_file_that_two_have_mapped_comes_free_with_the_second_of_them() -> None:
    holds = tuple(Hold(name, "/same", 5, 5, 4, 1, name) for name in ("apps/a-0", "apps/b-0"))
    memory = Memory(100, 0, holds, None, 1)
    assert memory.without({"apps/a-0"}).left == 1
    assert memory.without({"apps/a-0", "apps/b-0"}).left == 6
    assert memory.short(Need("/same", 5)) == 1
    assert memory.without({"apps/a-0", "apps/b-0"}).short(Need("/same", 7)) == 1
    assert Memory(100, 50, holds, 8, 1).left == 2 and Memory(100, 50, holds, 8, 2).left == 8


def test_a_limit_is_of_what_the_instance_has_itself() -> None:
    mine, theirs = Hold("a/a", "/a", 5, instance=1), Hold("b/b", "/b", 5, instance=2)
    assert Memory(100, 50, (mine, theirs), 8, 1).left == 3
    assert Memory(100, 11, (mine, theirs), 8, 1).left == 1


def test_a_replica_stays_as_long_as_it_took_to_load_within_bounds() -> None:
    assert (residency(None), residency(0.2), residency(20.0)) == (LEAST_SECONDS, LEAST_SECONDS, 20.0)
    assert residency(1e6) == MOST_SECONDS


STEP = 0.25


@dataclass
class Service:
    """`load` seconds until it is ready; requests take `work` seconds each, all that it may take at once."""

    name: str
    size: int
    load: float
    work: float
    queue: list[float] = field(default_factory=list)
    running: list[float] = field(default_factory=list)
    came: int = 0
    replica: str = ""
    claimed: bool = False
    ready_at: float = math.inf
    closed: bool = False
    waited: float = 0.0
    starts: int = 0
    gpus: int = 0
    has: tuple[str, ...] = ()

    @property
    def need(self) -> Need:
        return need(self.size, self.gpus, f"/{self.name}")


class Machine:
    """Services over the policy, as an instance does it. Stopping takes a second."""

    def __init__(self, total: int, services: list[Service], dice: random.Random, gpus: int = 0) -> None:
        self.gpus = cards(gpus)
        self.total, self.services, self.dice = total, services, dice
        self.sharer, self.turns, self.now = Sharer(), Turns(), 0.0
        self.ending: list[tuple[float, Hold]] = []

    def step(self) -> None:
        self.now += STEP
        self.ending = [(at, hold) for at, hold in self.ending if at > self.now]
        for one in self.services:
            one.running = [end for end in one.running if end > self.now]
            if one.queue and not one.replica:
                one.starts += 1
                one.replica, one.claimed, one.ready_at = f"{one.name}-{one.starts}", False, math.inf
            if one.replica and not one.claimed and not one.queue:
                one.replica = ""  # nobody waits any more
        for one in self.dice.sample(self.services, len(self.services)):  # they ask in any order
            memory = self.memory().after(self.turns.ahead_of(one.name))
            if one.replica and not one.claimed and memory.fits(one.need):
                one.claimed, one.ready_at = True, self.now + one.load
                one.has = tuple(gpu.id for gpu in memory.choose(one.need.gpus))
                assert len(one.has) == one.gpus and not self.taken(one) & {*one.has}, "two have the same GPU"
        for one in self.services:
            if one.ready_at <= self.now and not one.closed:
                one.waited = max([one.waited, *(self.now - came for came in one.queue)])
                one.running += [self.now + one.work for _ in one.queue]
                one.queue = []
        self.share()

    def taken(self, but: Service) -> set[str]:
        return {gpu for one in self.services if one.claimed and one is not but for gpu in one.has}

    def memory(self) -> Memory:
        holds = [self.hold(one) for one in self.services if one.claimed] + [hold for _, hold in self.ending]
        return Memory(self.total, self.total - sum(hold.size for hold in holds), tuple(holds), None, 1, self.gpus)

    def hold(self, one: Service) -> Hold:
        return Hold(one.name, f"/{one.name}", one.size, one.size, 0, 1, one.replica, one.has)

    def share(self) -> None:
        seen = [
            Sharing(
                service=one.name,
                need=one.need,
                keeps=0,
                replicas=[
                    ReplicaFacts(one.replica, 0, ready=one.ready_at <= self.now, held=not one.claimed)
                ] if one.replica else [],
                demand=Demand(
                    one.name, len(one.queue), len(one.running), arrivals=one.came,
                    oldest_seconds=max((self.now - came for came in one.queue), default=0.0),
                ),
                in_flight=lambda _, one=one: len(one.running),  # type: ignore[misc]
                waits=bool(one.replica) and not one.claimed,
            )
            for one in self.services
        ]  # fmt: skip
        self.turns = self.sharer.turns(seen, self.memory(), self.now)
        for one in self.services:
            one.closed = one.replica in self.turns.closed
            if one.replica in self.turns.goes:
                assert not one.running and self.now - one.ready_at >= LEAST_SECONDS - STEP
                self.ending.append((self.now + 1.0, self.hold(one)))
                one.replica, one.claimed, one.ready_at, one.closed = "", False, math.inf, False


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 20), st.integers(0, 20), st.integers(0, 2)), min_size=2, max_size=5
    ),
    st.integers(4, 6),
    st.floats(0.02, 1.0),
    st.integers(0, 1 << 32),
)
@settings(max_examples=30)
def test_every_request_has_its_turn_within_a_bounded_time(
    services: list[tuple[int, int, int, int]], total: int, busy: float, seed: int
) -> None:
    """Whatever fits beside what, and however busy: all wait no longer than everybody else's time takes."""
    all_ = [
        Service(name, size, load, work, gpus=gpus)
        for name, (size, load, work, gpus) in zip(NAMES, services, strict=False)
    ]  # fmt: skip
    dice = random.Random(seed)
    here = Machine(total, all_, dice, gpus=2)
    for _ in range(600):  # two and a half minutes
        for one in all_:
            if dice.random() < busy:
                one.queue.append(here.now)
                one.came += 1
        here.step()
    each = [max(LEAST_SECONDS, 0.0) + one.load + one.work + 3.0 for one in all_]
    bound = 2 * sum(each)
    for _ in range(int(bound / STEP)):
        here.step()
    assert not any(one.queue for one in all_), "somebody was forgotten"
    assert all(one.waited <= bound for one in all_), [(one.waited, bound) for one in all_]


def test_two_busy_services_do_not_push_each_other_out_all_the_time() -> None:
    pair = [Service(name, 4, 10.0, 1.0) for name in NAMES[:2]]
    here = Machine(5, pair, random.Random(1))
    for _ in range(1200):
        for one in pair:
            one.queue.append(here.now)
            one.came += 1
        here.step()
    assert 16 <= sum(one.starts for one in pair) <= 30, "300 s hold so many times loading and the least stay"
