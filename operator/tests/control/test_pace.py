from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmservice_operator.control.pace import CALM_SECONDS, HURRY_SECONDS, HURRY_WRITES, PAUSE_SECONDS, Pace


def test_what_a_person_edits_is_not_slowed() -> None:
    pace = Pace()
    for number in range(500):
        now = number * HURRY_SECONDS / (HURRY_WRITES - 2)
        assert not pace.slowed(now) and not pace.paused(now)
        pace.wrote(now)


def test_who_asks_for_something_else_all_the_time_is_slowed_until_it_is_calm() -> None:
    pace = Pace()
    for now in range(HURRY_WRITES):
        assert not pace.slowed(now)
        pace.wrote(now)
    last = HURRY_WRITES - 1
    assert pace.paused(last + PAUSE_SECONDS - 1) and not pace.paused(last + PAUSE_SECONDS)
    pace.wrote(last + PAUSE_SECONDS)
    assert pace.paused(last + PAUSE_SECONDS + 1)
    last += int(PAUSE_SECONDS)
    assert pace.slowed(last + CALM_SECONDS - 1)
    assert not pace.slowed(last + CALM_SECONDS) and not pace.paused(last + CALM_SECONDS)


@given(st.lists(st.floats(0.01, 30), min_size=50, max_size=300))
def test_writes_in_a_minute_are_bounded(pauses: list[float]) -> None:
    pace, now, written = Pace(), 0.0, list[float]()
    for pause in pauses:
        now += pause
        if not pace.paused(now):
            pace.wrote(now)
            written.append(now)
    for at in written:
        assert sum(1 for other in written if at <= other < at + HURRY_SECONDS) <= HURRY_WRITES + 1
