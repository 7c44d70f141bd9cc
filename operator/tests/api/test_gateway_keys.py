"""Keys of the gateway as they stand in a Secret, and what they used as it stands in a ConfigMap."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api import gateway_usage
from llmservice_api.gateway_keys import (
    MOST_HASHES,
    checked_name,
    decoded,
    encoded,
    hash_of,
    new_key,
    read,
    record_of,
    rotated,
)
from llmservice_api.gateway_usage import MOST_BYTES, MOST_DAYS, Used, added, decode

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = new_key()
RECORD = record_of(KEY, ["apps/*"], 60, 1000, now=NOW)
NUMBER = st.integers(0, 1 << 40)
DAYS = st.dictionaries(
    st.dates(date(2026, 1, 1), date(2026, 1, 20)),
    st.dictionaries(st.sampled_from("abc"), st.builds(Used, NUMBER, NUMBER, NUMBER), min_size=1),
)


def entry(**fields: object) -> str:
    said = json.loads(base64.b64decode(encoded(RECORD)))
    return base64.b64encode(json.dumps({**said, **fields}).encode()).decode()


def test_an_entry_comes_back_as_it_was_and_has_no_key() -> None:
    text = encoded(RECORD)
    assert decoded("dify", text) == RECORD
    assert KEY.encode() not in base64.b64decode(text) and hash_of(KEY).encode() in base64.b64decode(text)
    assert len(KEY) > 43 and new_key() != KEY


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("%%%", "it is no base64"),
        (base64.b64encode(b"[1").decode(), "Invalid JSON"),
        (entry(services=[]), "services"),
        (entry(services=["apps"]), "services.0: 'apps' names no services: write NAMESPACE/NAME"),
        (entry(services=["Apps/x"]), "services.0"),
        (entry(tokensPerMinute=0), "tokensPerMinute"),
        (entry(tokensPerMinutes=1), "tokensPerMinutes"),
        (entry(hashes=[{"sha256": "secret-that-nobody-may-read"}]), "hashes.0.sha256"),
        (entry(hashes=[{"sha256": "0" * 64, "notAfter": "2026-01-01T00:00:00"}]), "hashes.0.notAfter"),
        (entry(created="yesterday"), "created"),
        (encoded(RECORD), "it has a key of dify"),
    ],
)
def test_a_broken_entry_costs_no_other_and_is_named(broken: str, said: str) -> None:
    found, wrong = read({"dify": encoded(RECORD), "zbroken": broken})
    assert found == {"dify": RECORD} and list(wrong) == ["zbroken"]
    assert said in wrong["zbroken"] and "nobody-may-read" not in wrong["zbroken"]


def test_names_are_words_that_metrics_and_secrets_can_have() -> None:
    for name in ("dify", "team-a.2", "9"):
        assert checked_name(name) == name
    for name in ("", "Dify", "a b", "-a", "a-", "a/b", "a" * 64, 'a"'):
        with pytest.raises(ValueError, match="lower-case letters"):
            checked_name(name)


@pytest.mark.parametrize(
    ("pattern", "service", "may"),
    [
        ("apps/*", "apps/qwen", True),
        ("apps/*", "appsx/qwen", False),
        ("*/qwen", "apps/qwen", True),
        ("*/*", "a/b", True),
        ("apps/q*n", "apps/qwen", True),
        ("apps/qwen", "apps/qwen2", False),
    ],
)
def test_patterns(pattern: str, service: str, may: bool) -> None:
    assert record_of(KEY, [pattern]).may_use(service) is may


def test_a_rotation_lets_the_old_key_work_for_its_overlap() -> None:
    once = rotated(RECORD, "one", NOW, timedelta(hours=1))
    assert [one.sha256 for one in once.hashes] == [hash_of("one"), hash_of(KEY)]
    assert [one.not_after for one in once.hashes] == [None, NOW + timedelta(hours=1)]
    twice = rotated(once, "two", NOW + timedelta(minutes=30), timedelta(hours=2))
    assert [one.not_after for one in twice.hashes] == [
        None,
        NOW + timedelta(hours=2, minutes=30),
        NOW + timedelta(hours=1),  # another rotation makes no key last longer
    ]
    late = rotated(twice, "three", NOW + timedelta(days=1), timedelta(hours=1))
    assert [one.sha256 for one in late.hashes] == [hash_of("three"), hash_of("two")]
    assert len(rotated(late, "four", NOW + timedelta(days=1), timedelta()).hashes) == 1
    record = RECORD
    for number in range(2 * MOST_HASHES):
        record = rotated(record, str(number), NOW, timedelta(hours=1))
        assert decoded("x", encoded(record)) == record


def applied(data: dict[str, str], changes: dict[str, str | None]) -> dict[str, str]:
    return {name: text for name, text in {**data, **changes}.items() if text is not None}


@given(st.lists(DAYS, max_size=6))
def test_what_gateways_add_is_the_sum(parts: list[dict[date, dict[str, Used]]]) -> None:
    data: dict[str, str] = {}
    expected: dict[date, dict[str, Used]] = {}
    for part in parts:
        data = applied(data, added(data, part))
        for day, keys in part.items():
            for key, used in keys.items():
                mine = expected.setdefault(day, {})
                mine[key] = mine.get(key, Used()) + used
    assert decode(data) == expected


def test_the_newest_days_are_kept_and_garbage_is_not() -> None:
    first = date(2026, 1, 1)
    data = {"garbage": "x", "2020-01-01": "[]"}
    for number in range(50):
        data = applied(data, added(data, {first + timedelta(days=number): {"a": Used(1, 2, 3)}}))
    assert len(data) == MOST_DAYS and min(data) == (first + timedelta(days=50 - MOST_DAYS)).isoformat()


def test_it_stays_small_enough_for_an_object() -> None:
    many = {f"key-{number:05}-{'x' * 40}": Used(number, 1 << 40, 1 << 40) for number in range(8000)}
    data: dict[str, str] = {}
    for number in range(5):
        data = applied(data, added(data, {date(2026, 1, 1 + number): many}))
    assert sum(map(len, data.values())) <= MOST_BYTES + (16 << 10) and "2026-01-05" in data
    assert "key-07999-" + "x" * 40 in decode(data)[date(2026, 1, 5)], "those that were used most"
    assert gateway_usage.usage_map("g") == "g-usage"
