"""The annotation by which gateways tell what services are asked for."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.demand_lease import MOST_BYTES, MOST_NUMBER, ServiceDemand, Told, decode, encode, lease
from llmservice_api.labels import DEMAND

COUNTS = st.integers(0, MOST_NUMBER)
DEMANDS = st.builds(
    ServiceDemand,
    held=COUNTS,
    in_flight=COUNTS,
    waiting_tokens=COUNTS,
    in_flight_tokens=COUNTS,
    arrivals=COUNTS,
    arrived_tokens=COUNTS,
    answered_tokens=COUNTS,
    mean_requests=st.integers(0, 10_000).map(lambda tenths: tenths / 10),
    oldest_seconds=st.integers(0, 10_000).map(lambda tenths: tenths / 10),
)
BUSY = ServiceDemand(10**9, 10**9, 10**9, 10**9, 10**9, 10**9, 10**9)
NAMES = st.from_regex(r"[a-z]{1,9}/[a-z]{1,9}", fullmatch=True)


@given(services=st.dictionaries(NAMES, DEMANDS, max_size=8))
def test_what_is_encoded_is_decoded(services: dict[str, ServiceDemand]) -> None:
    assert decode(encode(services)) == Told(services)


@given(services=st.dictionaries(NAMES, DEMANDS, max_size=8), most=st.integers(64, 600))
def test_what_has_no_room_is_counted_and_those_with_most_held_stay(
    services: dict[str, ServiceDemand], most: int
) -> None:
    text = encode(services, most)
    told = decode(text)
    assert len(text.encode()) <= most
    assert len(told.services) + told.omitted == len(services)
    left_out = [demand.held for name, demand in services.items() if name not in told.services]
    assert all(demand.held >= max(left_out, default=0) for demand in told.services.values())


def test_it_says_what_is_not_zero_in_few_bytes() -> None:
    text = encode({"apps/qwen": ServiceDemand(held=2, oldest_seconds=1.25), "apps/idle": ServiceDemand(arrivals=7)})
    assert text == '{"apps/qwen":{"held":2,"oldestSeconds":1.2},"apps/idle":{"arrivals":7}}'


def test_thousands_of_services_fit_or_are_counted() -> None:
    services = {f"namespace-{i}/{'n' * 40}": replace(BUSY, oldest_seconds=100.0) for i in range(5000)}
    text = encode(services)
    told = decode(text)
    assert MOST_BYTES - 1000 < len(text) <= MOST_BYTES
    assert told.omitted > 1000
    assert len(told.services) + told.omitted == 5000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "null",
        '"text"',
        '{"apps/qwen"',
        '{"apps/qwen": 3}',
        '{"apps/qwen": {"held": "3"}}',
        '{"apps/qwen": {"held": true}}',
        '{"apps/qwen": {"held": null}}',
        '{"apps/qwen": {"held": -1}}',
        '{"apps/qwen": {"held": NaN}}',
        '{"apps/qwen": {"oldestSeconds": Infinity}}',
        '{"apps/qwen": {"arrivals": 1e300}}',
        '{"qwen": {"held": 1}}',
        '{"a/b/c": {"held": 1}}',
        '{"/b": {}}',
        '{"": 3}',
        '{"": {"omitted": -3}}',
        "[" * 100_000,
        '{"apps/qwen": {"held": ' + "9" * 5000 + "}}",
        '{"apps/qwen": {}}' + " " * MOST_BYTES,
    ],
)
def test_garbage_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)


@given(text=st.text(max_size=40))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        decode(text)


@given(held=st.integers(0, 1 << 80), seconds=st.floats(0, 1e300))
def test_whatever_an_engine_counts_makes_no_lease_unreadable(held: int, seconds: float) -> None:
    told = decode(encode({"a/b": ServiceDemand(held=held, arrived_tokens=held, oldest_seconds=seconds)})).services[
        "a/b"
    ]
    assert told.held == told.arrived_tokens == min(held, MOST_NUMBER)


def test_fields_of_later_releases_are_passed_over() -> None:
    assert decode('{"apps/qwen": {"held": 1, "later": {"a": 1}}}') == Told({"apps/qwen": ServiceDemand(held=1)})


def test_a_lease_carries_it() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    made = lease("llm", "gateway-0", encode({"a/b": ServiceDemand(held=1)}), now=now, began=now, labels={"x": "y"})
    assert made["metadata"]["labels"] == {"x": "y", "app.kubernetes.io/component": "gateway"}
    assert json.loads(made["metadata"]["annotations"][DEMAND]) == {"a/b": {"held": 1}}
    assert made["spec"]["holderIdentity"] == "gateway-0"
    assert made["spec"]["renewTime"] == "2026-01-02T03:04:05.000678Z"
