from __future__ import annotations

from llmservice_operator.control.health import ASK_SECONDS, Health


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_standby_is_dead_when_it_no_longer_asks_for_the_lease() -> None:
    clock = Clock()
    health = Health(patience=300, clock=clock)
    clock.now += 10_000  # it waits for the API server, and does not stand yet
    assert health.alive and health.ready
    health.asked()
    clock.now += ASK_SECONDS - 1
    assert health.alive
    health.asked()
    clock.now += ASK_SECONDS
    assert not health.alive


def test_a_leader_is_dead_when_it_hears_nothing_or_its_election_hangs() -> None:
    clock = Clock()
    health = Health(patience=300, clock=clock)
    health.asked()
    health.lead()

    def alive() -> bool:  # a property's answer would be remembered by the type checker
        return health.alive

    for _ in range(5):
        clock.now += 50
        health.asked()
        assert alive()
    clock.now += 50
    assert not alive()
    health.heard()
    assert alive()
    clock.now += ASK_SECONDS
    assert not alive()
