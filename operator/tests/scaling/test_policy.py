"""What a user sees of a decision: when replicas come, when they go, and what is said."""

from __future__ import annotations

import itertools
import math
from datetime import datetime, timedelta

import pytest
from told import CAPACITY, Reading, Rules, Service, of, replace, told  # type: ignore[import-not-found]

from llmservice_runtime.contract.errors import UserError
from llmservice_scaling.decision import Reason
from llmservice_scaling.demand import expected_answer
from llmservice_scaling.schedule import warm_floor

ZERO_TO_EIGHT = Rules(min_replicas=0, max_replicas=8, idle_seconds=60.0, scale_down_seconds=120.0)
ONE_TO_EIGHT = Rules(min_replicas=1, max_replicas=8, idle_seconds=60.0, scale_down_seconds=120.0)


def test_one_held_request_wakes_a_service_at_once() -> None:
    service = Service(ZERO_TO_EIGHT, replicas=0)
    assert service.tick().replicas == 0
    decision = service.tick(0.1, held=1)
    assert (decision.replicas, decision.reason) == (1, Reason.WANTED)
    assert decision.sentence == "1 requests held and in flight at 38.4 a replica want 1"


def test_it_goes_to_none_only_after_idle_seconds_without_any_request() -> None:
    service = Service(ZERO_TO_EIGHT)
    assert service.pass_time(60).reason is Reason.NOT_IDLE_YET
    service.tick(in_flight=1)
    assert service.pass_time(60).replicas == 1, "the request began it anew"
    assert service.tick().replicas == 0
    assert service.decisions[-1].sentence == "nobody asked for 60 s"
    asleep = len(service.decisions)
    service.pass_time(600)
    assert {one.replicas for one in service.decisions[asleep:]} == {0}, "what was wanted before does not bring it back"


@pytest.mark.parametrize("told", [{"prompt_rate": 3.0}, {"engine_requests": 1}, {"in_flight": 1}, {"held": 1}])
def test_whoever_still_sees_a_request_keeps_the_last_replica(told: dict[str, float]) -> None:
    service = Service(ZERO_TO_EIGHT)
    assert service.pass_time(3600, **told).replicas == 1


def test_one_gateway_that_is_not_heard_keeps_the_last_replica() -> None:
    service = Service(ZERO_TO_EIGHT)
    for _ in range(100):
        decision = service.tick(in_flight=Reading(0.0, service.now + 5.0, complete=False))
    assert (decision.replicas, decision.reason) == (1, Reason.HELD)
    assert decision.sentence == "1 stay, because not everything is known: requests was told in part"


def test_a_replica_that_somebody_waited_for_may_finish_its_start() -> None:
    service = Service(replace(ZERO_TO_EIGHT, idle_seconds=10.0), replicas=0)
    service.tick(held=1)
    for _ in range(60):  # the client gave up, and is to come back
        assert service.tick(starting=1).replicas == 1
    service.pass_time(10)
    assert service.tick().replicas == 0, "it is ready, and nobody came"


def test_one_that_never_starts_is_not_waited_for_without_end() -> None:
    service = Service(replace(ZERO_TO_EIGHT, idle_seconds=10.0), replicas=0)
    service.tick(held=1)
    service.tick(starting=1, held=1)
    for _ in range(130):
        service.tick(starting=1)
    assert service.replicas == 0


def test_all_at_once_is_more_than_may_be_added_at_a_time() -> None:
    service = Service(ONE_TO_EIGHT)
    decision = service.tick(held=600)
    assert (decision.replicas, decision.reason) == (5, Reason.GROWTH_LIMITED)
    assert service.tick(held=600).replicas == 5
    assert service.pass_time(15, held=600).replicas == 8
    assert "5 at a time" in of(decision, "requests")


def test_it_goes_down_when_fewer_did_for_the_whole_window() -> None:
    service = Service(ONE_TO_EIGHT, replicas=4)
    service.tick(in_flight=150)
    decision = service.pass_time(115, in_flight=30)
    assert (decision.replicas, decision.reason) == (4, Reason.WINDOW)
    assert decision.sentence == "1 would do now; 4 were wanted in the last 120 s"
    assert service.tick(in_flight=30).replicas == 3
    assert service.decisions[-1].reason is Reason.LOWERED
    decision = service.pass_time(20, in_flight=30)
    assert (decision.replicas, decision.reason) == (3, Reason.LOWERING)
    assert decision.sentence == "no more than 1 were wanted in the last 120 s; some go every 40 s"
    assert service.pass_time(65, in_flight=30).replicas == 1
    assert service.decisions[-1].sentence == "30 requests held and in flight at 46.9 a replica want 1"


def test_it_goes_down_in_steps_and_a_burst_minutes_later_finds_most_of_them() -> None:
    service = Service(replace(ONE_TO_EIGHT, max_replicas=40), replicas=40)
    service.pass_time(120, in_flight=1)
    steps = [service.tick(in_flight=1).replicas for _ in range(60)]
    assert steps[0] == 36 and min(steps) == 19, "a tenth every 40 s"
    assert max(a - b for a, b in itertools.pairwise(steps)) == 3
    assert service.tick(held=1_500).replicas == 25


def test_all_that_may_go_at_once_when_nobody_asked_in_the_whole_window() -> None:
    service = Service(replace(ONE_TO_EIGHT, min_replicas=2), replicas=8)
    service.tick(in_flight=400)
    assert service.pass_time(115).replicas == 8
    decision = service.tick()
    assert (decision.replicas, decision.reason) == (2, Reason.LOWERED)
    assert decision.sentence == "no more than 1 were wanted in the last 120 s"


def test_a_new_leader_keeps_what_it_finds_for_a_window_and_no_longer() -> None:
    service = Service(ONE_TO_EIGHT, replicas=4)
    service.pass_time(110)
    service.new_leader()
    assert service.pass_time(120, in_flight=1).replicas == 4
    assert service.tick(in_flight=1).replicas == 3
    assert service.pass_time(80, in_flight=1).replicas == 1


def test_time_in_which_nothing_was_known_does_not_count() -> None:
    service = Service(ONE_TO_EIGHT, replicas=4)
    service.pass_time(60)
    for _ in range(100):
        service.tick(in_flight=1, kv_used=Reading(None, 0.0))
    assert service.pass_time(60, in_flight=1).replicas == 4
    assert service.tick(in_flight=1).replicas == 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, None])
def test_what_is_no_number_is_said_and_holds(value: float | None) -> None:
    service = Service(ONE_TO_EIGHT, replicas=4)
    for _ in range(100):
        decision = service.tick(waiting_tokens=Reading(value, service.now + 5.0))
    assert (decision.replicas, decision.reason) == (4, Reason.HELD)
    assert "nothing goes" in of(decision, "backlog")


def test_a_signal_that_is_lost_does_not_keep_others_from_raising() -> None:
    service = Service(ONE_TO_EIGHT)
    decision = service.tick(held=130, kv_used=Reading(None, 0.0))
    assert decision.replicas == 3
    assert not decision.metrics_available


def test_long_prompts_raise_before_there_are_many_requests() -> None:
    service = Service(ONE_TO_EIGHT)
    decision = service.tick(in_flight=20, waiting_tokens=900_000)
    assert decision.replicas == 4
    assert decision.sentence == "3.57 seconds of work per second, what waits in 30 s at 0.9 a replica want 4"


def test_what_is_computed_before_another_replica_could_start_orders_none() -> None:
    service = Service(ONE_TO_EIGHT)
    assert service.tick(in_flight=20, waiting_tokens=200_000).replicas == 1
    assert service.tick(in_flight=20, waiting_tokens=200_000, prompt_rate=6_000.0).replicas == 2, "beside what comes"


def test_where_replicas_start_quickly_what_waits_is_done_sooner() -> None:
    service = Service(ONE_TO_EIGHT, capacity=replace(CAPACITY, load_seconds=12.0))
    assert service.tick(in_flight=20, waiting_tokens=100_000).replicas == 4, "12 s of work in 4"
    service = Service(ONE_TO_EIGHT, replicas=5, capacity=replace(CAPACITY, load_seconds=0.1))
    assert service.tick(in_flight=20, waiting_tokens=100_000).replicas == 7, "12 s of work in 2"


def test_chance_in_a_few_seconds_asks_for_nothing_that_a_short_queue_makes_up_for() -> None:
    service = Service(ONE_TO_EIGHT, replicas=2)
    for tenths in (14, 22, 12, 21, 13, 14) * 20:
        decision = service.tick(in_flight=50, prompt_rate=1_200.0 * tenths, request_rate=16.0)
    assert decision.replicas == 2, "1.6 on the mean, 2.2 in single moments"


def test_a_burst_orders_what_it_needs_and_not_what_it_leaves_waiting() -> None:
    """Three come for it; what the one that there is leaves waiting is done when they are there, and a few more."""
    service = Service(replace(ONE_TO_EIGHT, max_replicas=16))
    for second in range(0, 30, 5):
        left = 30_000 * second
        service.tick(starting=service.replicas - 1, in_flight=20, waiting_tokens=left, prompt_rate=36_000.0)
    assert service.replicas <= 7, "750,000 tokens are 63 s of work"


def test_one_long_prompt_is_computed_by_one_replica_however_long_it_takes() -> None:
    """At 100 tokens/s what waits and what arrives wants more than there are; each of them would have nothing to do."""
    slow = replace(CAPACITY, prompt_tokens_per_second=100.0, answer_tokens_per_second=20.0)
    service = Service(ZERO_TO_EIGHT, replicas=0, capacity=slow)
    decision = service.tick(held=1, waiting_tokens=2_000, prompt_rate=400.0)
    assert decision.replicas == 1
    assert of(decision, "backlog") == "no more than there are requests; wants 1: the most that is wanted"
    lone = {"prompt_rate": 400.0, "request_rate": 0.2, "mean_requests": 1.0}
    decision = service.tick(in_flight=1, engine_requests=1, waiting_tokens=2_000, **lone)
    assert decision.replicas == 1 and of(decision, "arrivals").endswith("wants what there is")
    assert service.tick(held=2, in_flight=1, engine_requests=1, waiting_tokens=4_000).replicas == 3


def test_short_requests_that_are_over_when_somebody_looks_are_work_too() -> None:
    service = Service(ONE_TO_EIGHT)
    short = {"prompt_rate": 30_000.0, "request_rate": 10.0}
    assert service.tick(in_flight=1, engine_requests=1, mean_requests=6.4, **short).replicas == 3


def test_one_client_that_asks_again_and_again_needs_one_however_slow_a_replica_measured_itself() -> None:
    """Beside three that started on the same node, it found a tenth of its speed; so one stream looked like two."""
    slow = replace(CAPACITY, prompt_tokens_per_second=1_000.0, answer_tokens_per_second=115.0)
    service = Service(ONE_TO_EIGHT, replicas=4, capacity=slow)
    one = {"prompt_rate": 400.0, "answer_rate": 180.0, "request_rate": 9.0, "mean_requests": 1.04}
    assert service.pass_time(900, in_flight=1, engine_requests=1, **one).replicas == 1
    assert of(service.decisions[-1], "arrivals").startswith("no more than there are requests")


def test_work_that_arrives_faster_than_it_is_done_raises_before_places_are_taken() -> None:
    service = Service(ONE_TO_EIGHT)
    decision = service.tick(in_flight=20, engine_requests=20, prompt_rate=20_000.0, answer_rate=1_000.0)
    assert decision.replicas == 3
    assert decision.sentence == "2.22 seconds of work per second, what waits in 30 s at 0.9 a replica want 3"
    assert of(decision, "arrivals") == "wants 3: the most that is wanted"


def test_what_comes_is_expected_to_be_answered_as_what_came() -> None:
    assert expected_answer(arrivals=30, pending=10, answered=2_000) == 100.0
    assert expected_answer(arrivals=10, pending=10, answered=0) == 0.0


def test_what_waits_for_replicas_that_start_does_not_order_them_again() -> None:
    service = Service(ONE_TO_EIGHT)
    service.tick(held=130, waiting_tokens=50_000)
    assert service.replicas == 3
    assert service.tick(starting=2, held=200, waiting_tokens=100_000).replicas == 3


def test_what_is_held_and_done_before_another_could_start_orders_none() -> None:
    """Of 700 requests that three waited for until they were ready, as when the last one is."""
    known = replace(CAPACITY, load_seconds=90.0, answer_tokens=200.0)
    held = {"held": 600, "in_flight": 100, "engine_requests": 100, "prompt_rate": 6_000.0}
    service = Service(ONE_TO_EIGHT, replicas=6, capacity=known)
    assert service.tick(waiting_tokens=600_000, **held).replicas == 6
    assert service.tick(waiting_tokens=1_800_000, **held).replicas > 6, "214 s of prompts"
    long = Service(ONE_TO_EIGHT, replicas=6, capacity=replace(known, answer_tokens=800.0))
    assert long.tick(waiting_tokens=600_000, **held).replicas > 6, "267 s of answers"
    unknown = Service(ONE_TO_EIGHT, replicas=6, capacity=replace(CAPACITY, load_seconds=90.0))
    assert unknown.tick(waiting_tokens=600_000, **held).replicas > 6


COMES = {"prompt_rate": 18_000.0, "request_rate": 20.0, "mean_requests": 50.0, "in_flight": 30, "engine_requests": 30}
"""The work of 1.5 replicas a second."""


WAITS = {"held": 600.0, "waiting_tokens": 600_000.0}


def begun(replicas: int, rules: Rules = ONE_TO_EIGHT, steady: float = 40.0) -> Service:
    """What comes for so long, with so many replicas ready; then much waits, eight are ordered, and it is done."""
    capacity = replace(CAPACITY, load_seconds=40.0, answer_tokens=1.0)
    service = Service(rules, replicas=replicas, capacity=capacity)
    nothing: dict[str, float] = {}
    for waits in [nothing] * round(steady / 5) + [WAITS] * 8:
        service.tick(starting=service.replicas - replicas, **waits, **COMES)
    assert service.replicas == 8
    return service


def test_what_waited_for_a_start_is_made_up_for_once() -> None:
    service = begun(1)
    assert service.pass_time(35, **COMES).replicas == 8, "as long as a replica takes to start"
    decision = service.tick(**COMES)
    assert (decision.replicas, decision.reason) == (2, Reason.CAUGHT_UP)
    assert decision.sentence == "what waited for replicas that started is done; 2 do what comes"
    assert {service.tick(**COMES).replicas for _ in range(60)} == {2}


def test_replicas_that_somebody_else_added_go_in_steps() -> None:
    service = Service(ONE_TO_EIGHT, replicas=2)
    service.pass_time(600, **COMES)
    assert service.replicas == 2
    service.replicas = 8
    decision = service.tick(**COMES)
    assert (decision.replicas, decision.reason) == (7, Reason.LOWERED)
    assert service.tick(**COMES).reason is Reason.LOWERING


def test_what_was_decided_and_is_not_written_yet_is_nobody_elses() -> None:
    service = begun(1)
    service.pass_time(35, **COMES)
    assert service.tick(**COMES).replicas == 2
    service.replicas = 8
    assert service.tick(**COMES).replicas == 2


def test_what_waits_where_most_are_ready_may_come_again() -> None:
    service = begun(4)
    assert service.pass_time(115, **COMES).replicas == 8
    assert service.tick(**COMES).replicas == 7, "in steps"


def test_a_burst_may_come_again_also_where_few_were_ready() -> None:
    service = begun(1, steady=0.0)
    assert service.pass_time(80, **COMES).replicas == 8


def test_a_target_of_the_user_is_what_is_wanted_also_of_those_that_waited_for_a_start() -> None:
    service = begun(1, replace(ONE_TO_EIGHT, in_flight=40.0))
    assert service.pass_time(115, **COMES).replicas == 8


def test_what_is_made_up_for_is_not_forgotten_before_it_is_done() -> None:
    service = begun(1)
    assert service.pass_time(100, **WAITS, **COMES).replicas == 8
    assert service.pass_time(35, **COMES).replicas == 8
    assert service.tick(**COMES).replicas == 2


def test_full_kv_caches_raise_and_half_full_ones_do_not() -> None:
    service = Service(ONE_TO_EIGHT, replicas=2)
    assert service.tick(in_flight=50, kv_used=1.0).replicas == 2
    assert service.tick(in_flight=50, kv_used=2.0).replicas == 3


def test_what_was_never_measured_neither_raises_nor_holds() -> None:
    bare = replace(CAPACITY, tokens_per_request=None, prompt_tokens_per_second=None, answer_tokens_per_second=None)
    service = Service(ONE_TO_EIGHT, replicas=4, capacity=bare)
    decision = service.pass_time(125, waiting_tokens=10**9, prompt_rate=10**9)
    assert decision.replicas == 3, "fewer, in steps"
    assert "nothing to measure" in of(decision, "backlog")


def test_a_kv_cache_that_nobody_measures_holds_nothing() -> None:
    service = Service(ZERO_TO_EIGHT, replicas=2)
    for _ in range(30):
        service.now += 5.0
        service.decide(replace(told(service.now, service.replicas), kv_used=None))
    assert service.replicas == 0


def test_a_target_of_the_user_is_not_a_way_to_lose_streams() -> None:
    """200 in flight would be one replica; they need four, at 64 each."""
    service = Service(replace(ONE_TO_EIGHT, in_flight=1000.0), replicas=6)
    assert service.pass_time(300, in_flight=200).replicas == 4


def test_a_target_of_the_user_counts() -> None:
    assert Service(replace(ONE_TO_EIGHT, in_flight=2.0)).tick(in_flight=9).replicas == 5


def test_bounds_hold_with_nothing_known_at_all() -> None:
    for replicas, bounded in ((0, 2), (3, 3), (9, 4)):
        service = Service(Rules(min_replicas=2, max_replicas=4), replicas)
        nothing = dict.fromkeys(("held", "in_flight", "engine_requests", "waiting_tokens"), Reading(None, 0.0))
        assert service.tick(**nothing).replicas == bounded


def test_a_warm_floor_holds_while_its_schedule_says_so() -> None:
    berlin = warm_floor("0 8 * * 1-5", "0 18 * * 1-5", "Europe/Berlin", 3)
    service = Service(replace(ZERO_TO_EIGHT, floors=(berlin,)), replicas=0, now=5.5 * 3600)
    assert service.pass_time(1790).replicas == 0, "a Monday in June, 07:59 in Berlin"
    decision = service.pass_time(30)
    assert (decision.replicas, decision.reason) == (3, Reason.WARM_FLOOR)
    assert decision.sentence == "a schedule keeps 3 warm now"
    service.now = 16 * 3600.0
    assert service.pass_time(300).replicas == 0


def test_a_warm_floor_is_not_above_the_most() -> None:
    always = warm_floor("* * * * *", "0 0 1 1 *", "UTC", 30)
    assert Service(replace(ZERO_TO_EIGHT, floors=(always,)), replicas=0).tick().replicas in (0, 8)


@pytest.mark.parametrize(
    ("start", "end", "zone", "replicas", "said"),
    [
        ("0 8 * *", "0 18 * * *", "UTC", 1, "schedules.start `0 8 * *` has 4 fields, not five"),
        ("0 8 * * *", "0 99 * * *", "UTC", 1, "schedules.end `0 99 * * *` can't be read: bad hour"),
        ("0 8 30 2 *", "0 18 * * *", "UTC", 1, "schedules.start `0 8 30 2 *` can't be read: bad day-of-month"),
        ("0 8 * * *", "0 18 * * *", "Mars/Base", 1, "timeZone `Mars/Base` is not known"),
        ("0 8 * * *", "0 18 * * *", "../../etc", 1, "timeZone `../../etc` is not known"),
        ("0 8 * * *", "0 18 * * *", "", 1, "timeZone `` is not known"),
        ("0 8 * * *", "0 18 * * *", "UTC", 0, "replicas is 0"),
    ],
)
def test_a_schedule_that_can_not_be_is_refused_by_name(
    start: str, end: str, zone: str, replicas: int, said: str
) -> None:
    with pytest.raises(UserError, match="scaling") as refused:
        warm_floor(start, end, zone, replicas)
    assert said in refused.value.reason
    assert refused.value.remedy


def test_rules_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="minReplicas"):
        Rules(min_replicas=3, max_replicas=2)
    with pytest.raises(ValueError, match="idle_seconds"):
        Rules(idle_seconds=0.0)


@pytest.mark.parametrize(
    ("day", "changes"),
    [
        ("2026-03-28", ["01:30 True", "02:30 False"]),
        ("2026-03-29", ["01:00 True", "01:30 False"]),  # 2 to 3 o'clock is left out: it begins with the next hour
        ("2026-10-24", ["00:30 True", "01:30 False"]),
        ("2026-10-25", ["00:30 True", "02:30 False"]),  # 2 to 3 o'clock comes twice: it goes on for both
        ("2026-10-26", ["01:30 True", "02:30 False"]),
    ],
)
def test_a_warm_floor_begins_and_ends_once_on_days_on_which_clocks_are_set(day: str, changes: list[str]) -> None:
    floor = warm_floor("30 2 * * *", "30 3 * * *", "Europe/Berlin", 2)
    began, found, before = datetime.fromisoformat(f"{day}T00:00:00+00:00"), [], False
    for minute in range(0, 300, 5):
        now = floor.active(began + timedelta(minutes=minute))
        if now != before:
            found.append(f"{began + timedelta(minutes=minute):%H:%M} {now}")
        before = now
    assert found == changes
