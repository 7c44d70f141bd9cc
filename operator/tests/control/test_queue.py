from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmservice_operator.control.queue import FIRST_BACKOFF, LONGEST_BACKOFF, KeyedQueue


def queue() -> KeyedQueue[str]:
    return KeyedQueue(jitter=lambda: 1.0)


def test_a_key_stands_once_however_often_it_is_woken() -> None:
    keys = queue()
    for at in (3.0, 1.0, 2.0):
        keys.wake("a", at)
    assert keys.take(0.9) is None
    assert keys.next_due() == 1.0
    assert keys.take(1.0) == "a"
    assert keys.take(9.0) is None
    assert len(keys) == 0


def test_a_key_is_never_worked_on_twice_at_a_time_but_once_more_after() -> None:
    keys = queue()
    keys.wake("a", 0)
    keys.wake("b", 1)
    assert keys.take(5) == "a"
    keys.wake("a", 2)
    assert keys.take(5) == "b"
    assert keys.take(5) is None
    assert keys.next_due() is None
    keys.done("a")
    assert keys.next_due() == 2
    assert keys.take(5) == "a"


def test_what_was_looked_at_in_the_middle_of_the_work_needs_no_other_look() -> None:
    keys = queue()
    keys.wake("a", 0)
    assert keys.take(0) == "a"
    keys.wake("a", 1)
    keys.looked("a")
    keys.wake("a", 3)
    keys.done("a")
    assert keys.next_due() == 3
    keys.looked("a")
    assert keys.take(3) == "a"


def test_failures_wait_longer_and_longer_until_one_success() -> None:
    keys = queue()
    waits, now = [], 0.0
    for _ in range(12):
        keys.wake("a", now)
        now += 1000
        assert keys.take(now) == "a"
        waits.append(keys.failed("a", now))
        now += waits[-1]
    assert waits[:4] == [FIRST_BACKOFF, 2 * FIRST_BACKOFF, 4 * FIRST_BACKOFF, 8 * FIRST_BACKOFF]
    assert waits[-1] == LONGEST_BACKOFF
    assert keys.take(now) == "a"
    keys.done("a")
    keys.wake("a", now)
    keys.take(now)
    assert keys.failed("a", now) == FIRST_BACKOFF


def test_news_end_a_backoff_early_but_make_no_storm() -> None:
    keys = queue()
    keys.wake("a", 0)
    keys.take(0)
    assert keys.failed("a", 0, at_least=60) == 60
    keys.wake("a", 0.1)
    assert keys.take(0.2) is None
    assert keys.take(FIRST_BACKOFF) == "a"


def test_one_failing_key_holds_up_no_other() -> None:
    keys = queue()
    keys.wake("bad", 0)
    keys.take(0)
    keys.failed("bad", 0, at_least=100)
    keys.wake("good", 1)
    assert keys.take(1) == "good"


def test_what_a_loop_that_died_worked_on_is_due_again() -> None:
    keys = queue()
    for key in ("a", "b"):
        keys.wake(key, 0)
    assert keys.take(0) == "a"
    keys.abandoned(1)
    assert [keys.take(1), keys.take(1), keys.take(1)] == ["b", "a", None]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["wake", "take", "done", "failed"])), max_size=60))
def test_no_wake_is_ever_lost(steps: list[tuple[str, str]]) -> None:
    keys, now, owed, working = queue(), 0.0, set[str](), set[str]()
    for key, step in steps:
        now += 0.5
        if step == "wake":
            keys.wake(key, now)
            owed.add(key)
        elif step == "take" and (taken := keys.take(now)) is not None:
            assert taken not in working
            working.add(taken)
            owed.discard(taken)
        elif step in ("done", "failed") and key in working:
            working.discard(key)
            if step == "done":
                keys.done(key)
            else:
                keys.failed(key, now)
                owed.add(key)
    for key in working:
        keys.done(key)
    while (left := keys.take(now + 10 * LONGEST_BACKOFF)) is not None:
        owed.discard(left)
        keys.done(left)
    assert owed == set()
