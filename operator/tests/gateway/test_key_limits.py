"""Limits of keys, who a key is of and what it sees: pure, the time is passed in."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_api.gateway_keys import KeyRecord, new_key, record_of, rotated
from llmservice_gateway.keys.limits import SECONDS, Meter, Window
from llmservice_gateway.keys.ring import Ring
from llmservice_gateway.keys.sight import Sight
from llmservice_gateway.routing import AmbiguousModelError, Backend, Table, UnknownModelError
from llmservice_gateway.spent import without_usage

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PAUSES = st.lists(st.floats(0, 90, allow_nan=False), min_size=1, max_size=200)


def limited(requests: int | None = None, tokens: int | None = None) -> KeyRecord:
    return record_of(new_key(), ["*/*"], requests, tokens)


@given(PAUSES, st.integers(1, 20), st.integers(1, 5), st.floats(0, 1000))
def test_no_minute_has_more_requests_than_a_gateways_part(
    pauses: list[float], most: int, gateways: int, now: float
) -> None:
    meter, record, taken = Meter(), limited(requests=most), list[float]()
    for pause in pauses:
        now += pause / 10
        if meter.ask(record, gateways, now) is None:
            taken.append(now)
    for at in taken:
        assert len([other for other in taken if at <= other < at + SECONDS]) <= -(-most // gateways)


@given(PAUSES, st.integers(1, 20))
def test_who_waits_as_long_as_is_said_is_let_in_and_nobody_waits_longer_than_a_minute(
    pauses: list[float], most: int
) -> None:
    meter, record, now = Meter(), limited(requests=most), 0.0
    for pause in pauses:
        now += pause / 10
        if refused := meter.ask(record, 1, now):
            assert (refused.what, refused.per_minute) == ("requests", most)
            assert 0 < refused.seconds <= SECONDS + 1
            now += refused.seconds + 1e-6
            assert meter.ask(record, 1, now) is None


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 500)), min_size=1, max_size=100), st.integers(1, 1000))
def test_tokens_hold_up_the_next_request_and_no_running_one(parts: list[tuple[float, int]], most: int) -> None:
    meter, record, now, taken = Meter(), limited(tokens=most), 0.0, list[tuple[float, int]]()
    for pause, tokens in parts:
        now += pause
        before = sum(count for at, count in taken if now - SECONDS < at)
        if meter.ask(record, 1, now) is None:
            assert before < most
            meter.took(tokens, now)
            taken.append((now, tokens))
        else:
            # To the second: what is a little older than a minute may count still.
            assert sum(count for at, count in taken if now - SECONDS - 1 <= at) >= most


def test_a_key_without_limits_has_none_and_other_keys_have_their_own() -> None:
    free, one, other = Meter(), Meter(), Meter()
    for _ in range(1000):
        assert free.ask(limited(), 3, 0.0) is None
        free.took(10**6, 0.0)
    record = limited(requests=1)
    assert one.ask(record, 1, 0.0) is None and one.ask(record, 1, 0.0) is not None
    assert other.ask(record, 1, 0.0) is None


def test_more_gateways_mean_a_smaller_part_at_once() -> None:
    meter, record = Meter(), limited(requests=10)
    assert [meter.ask(record, 2, 0.0) is None for _ in range(6)] == [True] * 5 + [False]
    assert meter.ask(record, 1, 0.0) is None, "the other one is gone"
    assert meter.ask(record, 5, 0.0) is not None


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 9)), max_size=300))
def test_a_window_holds_a_minutes_slots_at_most(parts: list[tuple[int, int]]) -> None:
    window, now = Window(), 0.0
    for pause, amount in parts:
        now += pause / 100
        window.add(amount, now)
        assert len(window._slots) <= SECONDS + 2
    assert window.wait(1, now + SECONDS + 1) == 0.0


def test_whose_a_key_is() -> None:
    keys = [new_key() for _ in range(20)]
    ring = Ring({f"key-{number}": record_of(key) for number, key in enumerate(keys)})
    for number, key in enumerate(keys):
        owner = ring.owner(key, NOW)
        assert owner is not None and owner.name == f"key-{number}"
        for wrong in (key[:-1], key + "x", key.swapcase(), "", "\udcff", "x" * 10_000):
            assert ring.owner(wrong, NOW) is None


def test_an_old_key_ends_when_its_overlap_does() -> None:
    old, new = new_key(), new_key()
    ring = Ring({"a": rotated(record_of(old, now=NOW), new, NOW, timedelta(hours=1))})
    for late, works in ((0, True), (3599, True), (3600, False)):
        at = NOW + timedelta(seconds=late)
        assert (ring.owner(old, at) is not None) is works and ring.owner(new, at) is not None


def test_what_a_key_may_not_use_is_not_there() -> None:
    found = (Backend("apps", "qwen"), Backend("apps", "llama"), Backend("ml", "qwen"))
    backends = {backend.full_name: backend for backend in found}
    whole = Table(backends, {"gpt": "ml/qwen", "small": "apps/llama"})
    sight, apps = Sight(), record_of(new_key(), ["apps/*"])
    seen = sight.of(apps, whole)
    assert sorted(seen.backends) == ["apps/llama", "apps/qwen"] and dict(seen.aliases) == {"small": "apps/llama"}
    assert seen.resolve("qwen").full_name == "apps/qwen", "unique among what it may use"
    with pytest.raises(AmbiguousModelError):
        whole.resolve("qwen")
    for hidden in ("ml/qwen", "gpt"):
        with pytest.raises(UnknownModelError):
            seen.resolve(hidden)
    assert sight.of(apps, whole) is seen and sight.of(record_of(new_key()), whole) is whole
    assert sight.of(apps, Table()).backends == {}, "another table is looked at anew"


USAGE = b'data: {"id":"x","choices": [],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
OTHERS = (
    b'data: {"choices":[{"delta":{"content":"\\"prompt_tokens\\": [] \\n\\n"}}],"usage":null}',
    b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":3,"completion_tokens":1}}',
    b"data: [DONE]",
    b": waiting",
    b'data: {"prompt_tokens" no json',
    b'data: ["prompt_tokens"]',
    b'event: x\ndata: {"error":{"message":"m"},"prompt_tokens":1}',
)


@settings(max_examples=200)
@given(st.lists(st.sampled_from((USAGE, *OTHERS)), max_size=8), st.sampled_from((b"\n\n", b"\r\n\r\n", b"\r\r")))
def test_only_events_of_usage_alone_are_taken_out(events: list[bytes], end: bytes) -> None:
    given_ = b"".join(event.replace(b"\n", end[: len(end) // 2]) + end for event in events)
    kept = b"".join(event.replace(b"\n", end[: len(end) // 2]) + end for event in events if event != USAGE)
    assert without_usage(given_) == kept


def test_a_clock_that_jumps_forward_lets_in_and_nothing_breaks() -> None:
    meter, record, dice = Meter(), limited(requests=3, tokens=50), random.Random(1)
    now = 0.0
    for _ in range(2000):
        now += dice.choice((0.0, 0.001, 1.0, 59.0, 61.0, 1e6))
        if meter.ask(record, 2, now) is None:
            meter.took(dice.randrange(40), now)
    assert meter.ask(record, 2, now + 1e9) is None
