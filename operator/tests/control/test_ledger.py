from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmservice_operator.control.ledger import (
    AGAIN_SECONDS,
    LOOP_SECONDS,
    LOOP_WRITES,
    SLOW_WRITES,
    Ledger,
    Line,
)
from llmservice_operator.control.pace import CALM_SECONDS, PAUSE_SECONDS
from llmservice_operator.facts.values import CONTESTED, NAME_CONFLICT, Refused

PLACE = "Service", "qwen"
QUOTA = Refused(*PLACE, "Forbidden", "exceeded quota")
WRONG = Refused(*PLACE, "Invalid", "spec.ports: wrong")
UNDONE = Refused(*PLACE, CONTESTED, "somebody takes spec.ports back")
SENT = "uid", "digest"


def adversary(line: Line, writes: int, now: float = 0.0) -> float:
    """Somebody undoes each of so many writes, one every second; the time after the last."""
    for _ in range(writes):
        line.wrote(1, "digest", now)
        now += 1
    return now


def test_what_is_wrong_in_itself_stands_until_it_changes_or_its_time_is_over() -> None:
    line = Line()
    line.refuse(WRONG, SENT, 0, final=True)
    assert line.stands(SENT, AGAIN_SECONDS - 1) and not line.to_try_again()
    assert not line.stands(("other", "digest"), 1)
    assert not line.stands(("uid", "edited"), 1)
    assert not line.stands(SENT, AGAIN_SECONDS)


def test_what_may_pass_and_what_is_in_the_way_is_tried_again_until_it_succeeds() -> None:
    for refused, final in ((QUOTA, False), (Refused(*PLACE, NAME_CONFLICT, ""), True)):
        line = Line()
        line.refuse(refused, SENT, 0, final)
        assert line.to_try_again() and not line.stands(SENT, 1)
        line.wrote(7, "digest", 1)
        assert line.refused is None and not line.to_try_again()
        assert line.as_wanted == (7, "digest")


def test_the_same_write_again_and_again_is_a_loop_and_edits_are_none() -> None:
    line = Line()
    now = adversary(line, LOOP_WRITES - 1)
    assert not line.undone("digest", now)
    now = adversary(line, 1, now)
    assert line.undone("digest", now)
    assert not line.undone("an edit", now)
    assert not line.undone("digest", now + LOOP_SECONDS)
    edited = Line()
    for number in range(100):
        edited.wrote(number, f"edit {number}", number / 10)
        assert not edited.undone(f"edit {number + 1}", number / 10)


def test_who_undoes_every_write_slowly_is_noticed_and_contents_that_take_turns_are_not() -> None:
    undone, turns = Line(), Line()
    for number in range(SLOW_WRITES):
        now = 15.0 * number  # as an autoscaler on the Deployment does
        assert not undone.undone("digest", now)
        undone.wrote(number, "digest", now)
    assert undone.undone("digest", 15.0 * SLOW_WRITES)
    for number in range(100):
        digest = "ab"[number % 2]
        assert not turns.undone(digest, 15.0 * number)
        turns.wrote(number, digest, 15.0 * number)


def test_a_contest_ends_where_the_server_refuses_the_write() -> None:
    line = Line()
    now = adversary(line, LOOP_WRITES)
    line.contest(UNDONE)
    line.refuse(QUOTA, SENT, now, final=False)
    assert line.refused == QUOTA and line.to_try_again()


def test_a_contested_object_is_written_rarely_told_and_over_when_a_write_stands() -> None:
    line = Line()
    now = adversary(line, LOOP_WRITES)
    line.contest(UNDONE)
    assert line.paused(now) and not line.to_try_again()
    last = now - 1
    assert line.due(now) == last + PAUSE_SECONDS - now
    now = last + PAUSE_SECONDS
    assert line.undone("digest", now) and not line.paused(now)
    line.wrote(2, "digest", now)
    assert line.refused == UNDONE
    assert line.settle(2, "digest", now + CALM_SECONDS - 1) == UNDONE
    assert line.settle(2, "digest", now + CALM_SECONDS) is None
    assert line.due(now) is None and line.refused is None


def test_an_edit_of_a_contested_object_does_not_wait() -> None:
    line = Line()
    now = adversary(line, LOOP_WRITES)
    line.contest(UNDONE)
    assert line.undone("digest", now)
    assert not line.undone("an edit", now)


@given(st.lists(st.floats(0.01, 30), min_size=50, max_size=300))
def test_however_fast_it_is_undone_writes_are_bounded(pauses: list[float]) -> None:
    line, now, written = Line(), 0.0, list[float]()
    for pause in pauses:
        now += pause
        if line.undone("digest", now):
            line.contest(UNDONE)
            if line.paused(now):
                continue
        line.wrote(1, "digest", now)
        written.append(now)
    for at in written:
        assert sum(1 for other in written if at <= other < at + LOOP_SECONDS) <= LOOP_WRITES + 1


def test_pages_go_with_their_services_and_lines_with_what_is_no_longer_wanted() -> None:
    ledger = Ledger()
    ledger.line("a", PLACE).refuse(QUOTA, SENT, 0, final=False)
    ledger.line("b", PLACE)
    ledger.pace("c", "Job").wrote(0)
    assert ledger.refused("a") == {PLACE: QUOTA} and ledger.to_try_again("a")
    ledger.only("a", set(), 0)
    assert not ledger.refused("a") and not ledger.to_try_again("a")
    ledger.keep({"a"})
    assert len(ledger) == 1
    ledger.forget("a")
    assert len(ledger) == 0 and not ledger._paces


def test_a_loop_is_seen_also_when_the_object_is_not_wanted_in_between() -> None:
    ledger = Ledger()
    for now in range(LOOP_WRITES):
        ledger.line("a", PLACE).wrote(1, "digest", now)
        ledger.only("a", set(), now)
    assert ledger.line("a", PLACE).undone("digest", now)
