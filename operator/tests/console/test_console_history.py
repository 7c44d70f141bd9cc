"""The last hour in memory: bounded whatever is asked, and true to what was added."""

from __future__ import annotations

import math
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from llmservice_console.history import (
    COLUMNS,
    LONGEST_SENTENCE,
    MOST_BYTES,
    MOST_DECISIONS,
    MOST_SERVICES,
    MOST_TIMES,
    SAMPLES,
    STEP_SECONDS,
    History,
    Moved,
    Times,
    percentile,
)


def test_full_of_everything_it_takes_no_more_memory_than_it_says() -> None:
    tracemalloc.start()
    try:
        history = History()
        for number in range(MOST_SERVICES + 20):
            name = f"apps/demo-{number}"
            history.add(name, 1, {"held": 1.0})
            for at in range(MOST_DECISIONS + 1):  # the widest characters, each sentence a string of its own
                history.moved(name, Moved(at, 1, 2, "Demand" * 20, chr(0x1F600 + at) * (LONGEST_SENTENCE + 50)))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < MOST_BYTES < 23_000_000


def test_an_hour_is_kept_and_no_more() -> None:
    history = History()
    for number in range(SAMPLES + 10):
        history.add("apps/demo", 1000 + number * STEP_SECONDS, {"held": float(number)})
    told = history.told("apps/demo")["columns"]
    assert len(told["at"]) == SAMPLES
    assert told["held"][0] == 10 and told["held"][-1] == SAMPLES + 9
    assert told["at"] == sorted(told["at"])


def test_only_what_is_newer_is_told() -> None:
    history = History()
    for at in (5, 10, 15):
        history.add("apps/demo", at, {"held": float(at)})
        history.moved("apps/demo", Moved(at, 1, 2, "Demand", "More is asked."))
    told = history.told("apps/demo", since=10)
    assert told["columns"]["at"] == [15] and [move["at"] for move in told["decisions"]] == [15]


def test_what_is_not_known_is_null_in_json() -> None:
    history = History()
    history.add("apps/demo", 5, {"held": 0.0, "kvUsed": math.nan})
    told = history.told("apps/demo")["columns"]
    assert told["held"] == [0] and told["kvUsed"] == [None] and told["ttft50"] == [None]
    assert set(told) == {"at", *COLUMNS}


def test_of_too_many_services_those_stay_that_were_asked() -> None:
    history = History()
    history.add("apps/asked", 1, {"requests": 1.0})
    for number in range(MOST_SERVICES):
        history.add(f"apps/idle-{number}", 0, {"requests": 0.0})
    assert history.last("apps/asked")["requests"] == 1


def test_a_service_that_went_away_is_forgotten() -> None:
    history = History()
    history.add("apps/demo", 5, {"held": 1.0})
    history.keep(["apps/other"])
    assert history.told("apps/demo")["columns"]["at"] == []


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=3 * MOST_TIMES))
def test_percentiles_are_times_that_were_seen(seconds: list[float]) -> None:
    times = Times()
    for each in seconds:
        times.add(each)
    median, most = times.taken()
    assert min(seconds) * 0.999 <= median <= most <= max(seconds) * 1.001
    assert all(math.isnan(one) for one in times.taken())


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.95) == 4.0
