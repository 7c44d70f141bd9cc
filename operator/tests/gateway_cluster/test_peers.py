"""Other gateways by their Leases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.demand_lease import LEASE_SECONDS, ServiceDemand, encode, lease
from llmservice_api.labels import DEMAND
from llmservice_gateway.cluster.lease import QUIET_SECONDS, Account
from llmservice_gateway.cluster.peers import Peers
from llmservice_gateway.demand import Demand
from llmservice_kube.kinds import Json
from llmservice_operator.demand.gateways import Gateways

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def look(peers: Peers, leases: list[Json], at: float) -> None:
    peers.look(leases, at, BEGAN + timedelta(seconds=at))


def told(name: str, at: float, **services: ServiceDemand) -> Json:
    text = encode({f"apps/{name}": demand for name, demand in services.items()})
    return lease("llm", name, text, now=BEGAN + timedelta(seconds=at), began=BEGAN)


def test_a_gateway_counts_while_its_lease_changes_whatever_its_clock_says() -> None:
    peers = Peers("mine")
    assert peers.live(0) == 1
    for at, clock in ((0.0, 0.0), (5.0, -3600.0), (10.0, 1e6)):
        look(peers, [told("mine", at), told("other", clock)], at)
        assert peers.live(at) == 2
    look(peers, [told("other", 1e6)], 20.0)  # seen again, and not renewed
    assert peers.live(10.0 + LEASE_SECONDS) == 2 and peers.live(10.1 + LEASE_SECONDS) == 1
    look(peers, [told("other", 1e6 + 1)], 40.0)
    assert peers.live(41.0) == 2
    look(peers, [], 42.0)
    assert peers.live(42.0) == 1, "one that took its leave"


def test_what_others_have_is_added_up_without_the_dead_and_this_one() -> None:
    peers = Peers("mine")
    busy = ServiceDemand(held=3, in_flight=2)
    look(peers, [told("mine", 0, demo=busy), told("a", 0, demo=busy), told("b", 0, demo=ServiceDemand(held=1))], 0.0)
    assert peers.others("apps/demo", 1.0) == ServiceDemand(held=4, in_flight=2)
    assert peers.others("apps/other", 1.0) == ServiceDemand()
    assert peers.others("apps/demo", LEASE_SECONDS + 1.0) == ServiceDemand()


@pytest.mark.parametrize("garbage", ["", "[]", '{"apps/demo": {"held": -1}}', "[" * 10_000])
def test_garbage_changes_nothing_of_what_was_told_and_is_logged_once(
    garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    peers = Peers("mine")
    look(peers, [told("a", 0, demo=ServiceDemand(held=3))], 0.0)
    for at in (1.0, 2.0, 3.0):
        broken = told("a", at)
        broken["metadata"]["annotations"][DEMAND] = garbage
        look(peers, [broken], at)
    assert peers.others("apps/demo", 3.0).held == 3 and peers.live(3.0) == 2
    assert len(caplog.records) == 1
    look(peers, [{**told("b", 0), "spec": None}, told("a", 4)], 4.0)
    assert peers.live(4.0) == 2, "what was never renewed is nobody"
    assert peers.others("apps/demo", 4.0).held == 0


steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 200.0, -200.0, -3600.0]), st.floats(0, 20)), max_size=20
)


@given(steps, st.floats(0, 20))
def test_gateways_and_operator_agree_on_who_lives(steps: list[tuple[str, float, float]], later: float) -> None:
    peers, gateways, at, leases = Peers("mine"), Gateways(), 0.0, dict[str, Json]()
    for name, skew, pause in steps:
        at += pause
        leases[name] = told(name, at + skew)
        look(peers, list(leases.values()), at)
        gateways.saw(leases[name], at, BEGAN + timedelta(seconds=at))
    assert peers.live(at + later) == 1 + len(gateways.live(at + later))


def test_a_service_is_told_of_while_it_has_work_and_a_minute_longer() -> None:
    account = Account()
    names = [
        list(account.of(iter([Demand("apps/demo", arrivals=arrivals, held=held)]), now))
        for now, arrivals, held in (
            (0.0, 0, 0),  # looked up, and not asked for
            (1.0, 1, 1),
            (100.0, 1, 1),
            (101.0, 1, 0),
            (101.0 + QUIET_SECONDS, 1, 0),
            (102.0 + QUIET_SECONDS, 1, 0),
            (103.0 + QUIET_SECONDS, 2, 0),
        )
    ]
    assert [bool(told) for told in names] == [False, True, True, True, True, False, True]
