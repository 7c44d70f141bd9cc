"""What gateways' Leases say of demand, and when they are believed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.demand_lease import ServiceDemand, encode, lease
from llmservice_api.labels import DEMAND
from llmservice_operator.demand.gateways import Asked, Gateways
from llmservice_scaling.signals import STALE_SECONDS, Validity

WALL = datetime(2026, 1, 1, tzinfo=UTC)
QWEN = "apps/qwen"


class World:
    """Gateways that tell, and a clock."""

    def __init__(self) -> None:
        self.gateways, self.now, self.began = Gateways(), 1000.0, dict[str, datetime]()

    @property
    def wall(self) -> datetime:
        return WALL + timedelta(seconds=self.now)

    def tells(self, name: str, skew: float = 0.0, **demand: Any) -> list[str]:
        return self.raw(name, encode({QWEN: ServiceDemand(**demand)} if demand else {}), skew)

    def raw(self, name: str, text: str, skew: float = 0.0) -> list[str]:
        now = self.wall + timedelta(seconds=skew)
        began = self.began.setdefault(name, now)
        return self.gateways.saw(lease("llm", name, text, now=now, began=began), self.now, self.wall)

    def asked(self) -> Asked:
        return self.gateways.asked(QWEN, self.now)


def test_gateways_are_added_up_and_one_that_is_silent_counts_no_more() -> None:
    world = World()
    assert world.asked().held.validity(world.now) is Validity.MISSING, "nobody told"
    assert world.tells("a", held=2, in_flight=3, mean_requests=4.5) == [QWEN]
    assert world.tells("b", in_flight=1, mean_requests=0.5) == []
    asked = world.asked()
    assert asked.mean_requests.value == 5
    assert (asked.held.value, asked.in_flight.value, asked.held.validity(world.now)) == (2, 4, Validity.VALID)
    world.now += 14
    world.tells("b", in_flight=1)
    assert world.asked().held.age(world.now) == 14, "as old as the oldest"
    world.now += 2
    assert (world.asked().held.value, world.asked().in_flight.value) == (0, 1)
    assert world.gateways.live(world.now) == ["b"]
    world.now += 16
    assert world.asked().held.value is None
    assert world.gateways.complaint(world.now) == "no gateway renews its Lease"


def test_a_service_that_is_not_named_is_asked_for_nothing_unless_some_were_left_out() -> None:
    world = World()
    world.tells("a")
    assert world.asked().held.value == 0
    assert world.asked().held.validity(world.now) is Validity.VALID
    world.raw("b", '{"":{"omitted":3}}')
    assert world.asked().held.validity(world.now) is Validity.PARTIAL


def test_garbage_never_reads_as_zero() -> None:
    world = World()
    world.raw("a", "{not json")
    assert world.asked().held.validity(world.now) is Validity.MISSING
    assert "can't be read" in world.gateways.complaint(world.now)
    world.tells("b", held=1)
    assert (world.asked().held.value, world.asked().held.validity(world.now)) == (1, Validity.PARTIAL)
    bare = lease("llm", "c", "", now=world.wall, began=world.wall)
    del bare["metadata"]["annotations"][DEMAND]
    assert world.gateways.saw(bare, world.now, world.wall) == []
    assert world.asked().held.validity(world.now) is Validity.PARTIAL


def test_clocks_may_be_minutes_off_and_what_died_long_ago_is_not_believed() -> None:
    world = World()
    world.tells("ahead", skew=200, held=1)
    world.tells("behind", skew=-200, held=1)
    world.tells("dead", skew=-3600, held=7)
    assert world.asked().held.value == 2
    world.now += 5
    world.tells("dead", skew=-3600, held=7)
    assert world.asked().held.value == 9, "its clock is wrong, and it lives"


def test_rates_are_of_the_last_seconds_and_a_gateway_that_began_counts_from_nothing() -> None:
    world = World()
    world.tells("a", arrivals=10, arrived_tokens=500, answered_tokens=50)
    asked = world.asked()
    assert (asked.prompt_rate.value, asked.answer_rate.value) == (100.0, 10.0), "5 tokens each, 2 a second"
    for second in range(1, 11):
        world.now += 1
        world.tells("a", arrivals=10 + second, arrived_tokens=500 + 20 * second, answered_tokens=50)
    assert (world.asked().prompt_rate.value, world.asked().answer_rate.value) == (20.0, 2.5), (
        "50 tokens of 20, 1 a second"
    )
    for _ in range(6):
        world.now += 1
        world.tells("a", arrivals=20, arrived_tokens=700, answered_tokens=50)
    assert world.asked().prompt_rate.value == 0.0


def test_a_leader_that_finds_old_gateways_takes_no_rate_from_what_came_before() -> None:
    world = World()
    world.began["a"] = world.wall - timedelta(hours=1)
    world.tells("a", arrivals=100_000, arrived_tokens=10**9)
    assert world.asked().prompt_rate.value == 0.0
    world.now += 5
    world.tells("a", arrivals=100_005, arrived_tokens=10**9)
    assert world.asked().prompt_rate.value == 1.0, "requests without tokens are requests"


def test_a_service_that_is_named_again_after_a_quiet_time_has_no_burst() -> None:
    world = World()
    world.tells("a", arrivals=1000)
    for _ in range(20):
        world.now += 5
        world.tells("a")
    world.now += 5
    world.tells("a", arrivals=1005)
    assert world.asked().prompt_rate.value == 1.0
    late = World()
    late.began["a"] = late.wall - timedelta(hours=1)
    late.tells("a")
    late.now += 5
    late.tells("a", arrivals=1005)
    assert late.asked().prompt_rate.value == 0.0, "how many came now is not known"


def test_one_that_begins_anew_under_its_name_does_not_count_backwards() -> None:
    world = World()
    world.tells("a", arrivals=100, held=1)
    world.now += 5
    world.began["a"] = world.wall
    world.tells("a", arrivals=5)
    assert world.asked().prompt_rate.value == 1.0


def test_a_lease_that_went_is_no_gateway() -> None:
    world = World()
    world.tells("a", held=1)
    world.tells("b", held=1)
    world.gateways.gone("a")
    assert world.asked().held.value == 1
    world.gateways.only(set())
    assert world.gateways.live(world.now) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.floats(0, 20)), max_size=20))
def test_what_is_told_is_the_sum_of_who_lives_and_never_older_than_believed(
    steps: list[tuple[str, int, float]],
) -> None:
    world, told = World(), dict[str, tuple[int, float]]()
    for name, held, pause in steps:
        world.now += pause
        world.tells(name, held=held)
        told[name] = held, world.now
    live = [held for held, at in told.values() if world.now - at <= 15]
    assert world.asked().held.value == (sum(live) if live else None)
    if live:
        assert world.asked().held.age(world.now) <= STALE_SECONDS
