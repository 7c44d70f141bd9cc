"""The supervisor's decisions, in fake time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor.events import (
    Action,
    Begin,
    CanaryAnswered,
    Do,
    Event,
    Exit,
    Exited,
    Record,
    Reported,
    StopRequested,
    Tick,
)
from llmservice_runtime.supervisor.probes import View, describe
from llmservice_runtime.supervisor.reports import DrainedReport, FailureReport, PhaseReport, ReadyReport, StepReport
from llmservice_runtime.supervisor.state import HOPELESS, Policy, State, backoff, next_wakeup, step

SETTINGS = RuntimeSettings(EngineType.LLAMA_CPP, "/x.gguf", "default/demo")
CRASH = FailureRecord(FailureClass.CRASHED, "it crashed", "look", "Ready", -11)
STAY = Policy(restart=True, load_seconds=100, progress_seconds=10, drain_seconds=30, canary_seconds=3)
LEAVE = Policy(restart=False, load_seconds=100, progress_seconds=10, drain_seconds=30, canary_seconds=3)


class World:
    """A state machine with its clock; `at` moves time, letting every due Tick happen."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.now = 1000.0
        self.state = State()
        self.actions: list[Action] = []
        self.send(Begin())

    def send(self, event: Event) -> list[Action]:
        self.state, actions = step(self.state, event, self.now, self.policy)
        self.actions += actions
        return actions

    def ready(self) -> World:
        self.send(Reported(ReadyReport(4000)))
        return self

    def advance(self, seconds: float, answers: bool = False) -> list[Action]:
        """Time passes; a healthy idle engine `answers` its canaries."""
        seen: list[Action] = []
        end = self.now + seconds
        while (when := next_wakeup(self.state, self.policy)) is not None and when <= end:
            self.now = max(self.now, when)
            done = self.send(Tick())
            seen += done
            if answers and Do.CANARY in done:
                self.send(CanaryAnswered())
            if any(isinstance(action, Exit) for action in done):
                break
            assert len(seen) < 1000
        self.now = end
        return seen


def test_load_budget_ends_a_load_that_takes_too_long_but_liveness_holds_meanwhile() -> None:
    world = World(LEAVE)
    world.send(Reported(PhaseReport(Phase.LOADING, 0.1)))
    assert world.advance(99) == [] and world.state.live and not world.state.ready
    assert world.advance(2) == [Do.KILL]
    assert world.state.killed_for is not None and world.state.killed_for.failure is FailureClass.LOAD_TIMEOUT
    assert world.send(Exited(CRASH)) == [Record(CRASH), Exit(1)]


def test_the_kv_cache_in_use_is_shown_until_its_engine_is_gone() -> None:
    world = World(LEAVE).ready()
    assert world.state.kv_used is None, "it was not told"
    world.send(Reported(StepReport(running=2, waiting=0, steps=1, kv_used=0.25)))
    assert describe(View(SETTINGS, lambda: world.state, lambda: 1, 2), world.now)["kv_used"] == 0.25
    world.send(Exited(CRASH))
    assert world.state.kv_used is None


def test_work_that_no_report_saw_is_told_by_its_steps() -> None:
    """Reports come once a second: a replica of short requests may have none at every one of them."""

    def since() -> object:
        return describe(View(SETTINGS, lambda: world.state, lambda: 1, 2), world.now)["seconds_since_work"]

    world = World(LEAVE).ready()
    assert since() is None
    world.send(Reported(StepReport(running=0, waiting=0, steps=40)))
    world.advance(3)
    assert since() == 3
    world.send(Reported(StepReport(running=0, waiting=0, steps=40)))
    assert since() == 3
    world.send(Reported(StepReport(running=0, waiting=1, steps=40)))
    assert since() == 0
    world.send(Exited(CRASH))
    assert since() is None


def test_a_long_queue_never_fails_liveness_while_steps_complete() -> None:
    world = World(LEAVE).ready()
    for steps in range(1, 200):
        world.send(Reported(StepReport(running=16, waiting=5000, steps=steps)))
        world.advance(5)
        assert world.state.live and world.state.ready


def test_requests_without_steps_fail_liveness_within_the_bound_and_recovery_counts() -> None:
    world = World(LEAVE).ready()
    world.send(Reported(StepReport(1, 0, 5)))
    world.advance(9.9)
    assert world.state.live
    actions = world.advance(0.2)
    assert (world.state.live, world.state.ready) == (False, False)
    assert isinstance(actions[0], Record) and actions[0].record.failure is FailureClass.NO_PROGRESS
    assert Do.KILL not in actions, "in a container the kubelet restarts"
    assert world.send(Reported(StepReport(1, 0, 6))) == [Do.CLEAR_RECORD]
    assert world.state.ready


def test_repeated_reports_without_a_step_are_no_progress() -> None:
    world = World(LEAVE).ready()
    for _ in range(12):
        world.send(Reported(StepReport(1, 3, 5)))
        world.advance(1)
    assert not world.state.live


def test_an_idle_engine_stays_live_as_long_as_it_answers() -> None:
    world = World(LEAVE).ready()
    world.advance(500, answers=True)
    assert world.state.ready
    world.advance(13.1)
    assert not world.state.live


def test_a_slow_machine_has_as_long_as_its_speed_says() -> None:
    """The bound is ten times what the step at hand takes by measured speed, where that is more than the policy's."""
    world = World(STAY).ready()
    world.send(Reported(StepReport(1, 0, 5, seconds=4.0)))
    assert Do.KILL not in world.advance(39)
    assert world.state.live
    world.send(Reported(StepReport(1, 0, 6, seconds=4.0)))
    assert Do.KILL in world.advance(41)


def test_a_measured_speed_shortens_no_bound_and_outlasts_no_request() -> None:
    world = World(STAY).ready()
    world.send(Reported(StepReport(1, 0, 5, seconds=0.001)))
    assert Do.KILL not in world.advance(9)
    world.send(Reported(StepReport(0, 0, 6, seconds=500.0)))
    assert Do.KILL in world.advance(11)  # idle, and its canaries are not answered


def test_a_canary_is_no_progress_while_requests_run() -> None:
    world = World(LEAVE).ready()
    world.send(Reported(StepReport(1, 0, 5)))
    for _ in range(11):
        world.send(CanaryAnswered())
        world.advance(1)
    assert not world.state.live


def test_with_restart_a_wedged_engine_is_killed_and_started_again_after_a_backoff() -> None:
    world = World(STAY).ready()
    world.send(Reported(StepReport(1, 0, 5)))
    assert Do.KILL in world.advance(10.1)
    record = world.state.killed_for
    assert record is not None
    world.send(Exited(record, jitter=1.0))
    assert world.state.phase is Phase.FAILED and not world.state.ready
    assert world.advance(0.9) == []
    assert world.advance(0.2) == [Do.START]
    assert world.state.restarts == 1 and world.state.live


def test_failures_back_off_to_the_cap_and_a_stable_time_ends_the_series() -> None:
    world = World(STAY)
    waits = []
    for _ in range(10):
        world.send(Exited(CRASH, jitter=1.0))
        retry_at = world.state.retry_at
        assert retry_at is not None
        waits.append(retry_at - world.now)
        world.advance(waits[-1])
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    world.ready()
    world.advance(61, answers=True)
    world.send(Exited(CRASH, jitter=1.0))
    assert world.state.failures == 1


def test_hopeless_failures_are_not_retried() -> None:
    for failure in HOPELESS:
        world = World(STAY)
        record = FailureRecord(failure, "no", "do", "Loading", 2)
        assert world.send(Exited(record)) == [Record(record), Exit(1)]
        assert next_wakeup(world.state, world.policy) is None


def test_drain_is_bounded_and_who_still_loads_has_nothing_to_finish() -> None:
    for world, patience in ((World(STAY).ready(), 40), (World(STAY), 2)):
        assert world.send(StopRequested()) == [Do.TERMINATE]
        assert not world.state.ready and world.state.live and world.state.phase is Phase.DRAINING
        assert world.advance(patience - 0.1) == []
        assert world.advance(0.2) == [Do.KILL]
        assert world.send(Exited(CRASH)) == [Exit(0)]


def test_an_engine_that_is_told_to_drain_gets_sigterm_when_it_has() -> None:
    world = World(STAY)
    world.send(Reported(ReadyReport(4000, told=True)))
    assert world.send(StopRequested()) == [Do.DRAIN]
    assert not world.state.ready and world.state.phase is Phase.DRAINING
    assert world.advance(12) == []
    assert world.send(Reported(DrainedReport())) == [Do.TERMINATE]
    assert world.send(Reported(DrainedReport())) == []
    assert world.advance(9.9) == []
    assert world.advance(0.2) == [Do.KILL]
    assert world.send(Exited(CRASH)) == [Exit(0)]


def test_an_engine_that_never_says_that_it_has_drained_gets_sigterm_all_the_same() -> None:
    world = World(STAY)
    world.send(Reported(ReadyReport(4000, told=True)))
    world.send(StopRequested())
    assert world.advance(34.9) == []
    assert world.advance(0.2) == [Do.TERMINATE]
    assert world.advance(5) == [Do.KILL]


def test_only_a_drain_that_was_asked_for_ends_and_a_second_signal_does_not_wait_for_it() -> None:
    world = World(STAY)
    world.send(Reported(ReadyReport(4000, told=True)))
    assert world.send(Reported(DrainedReport())) == [] and world.state.ready
    world.send(StopRequested())
    assert world.send(StopRequested()) == [Do.KILL]
    assert Do.TERMINATE not in world.advance(60)


def test_a_restarted_engine_says_anew_how_it_drains() -> None:
    world = World(STAY)
    world.send(Reported(ReadyReport(4000, told=True)))
    world.send(Exited(CRASH))
    world.advance(2)
    world.ready()
    assert world.send(StopRequested()) == [Do.TERMINATE]


def test_a_load_that_takes_too_long_says_what_it_was_waiting_for() -> None:
    world = World(LEAVE)
    world.send(Reported(PhaseReport(Phase.LOADING, None, "vLLM has not loaded the plug-in llmservice_api yet")))
    world.advance(101)
    assert world.state.killed_for is not None and "plug-in llmservice_api" in world.state.killed_for.message


def test_late_reports_do_not_undo_a_drain() -> None:
    world = World(STAY)
    world.send(StopRequested())
    world.send(Reported(PhaseReport(Phase.WARMING, 0.9)))
    world.send(Reported(ReadyReport(4000)))
    assert world.state.phase is Phase.DRAINING and not world.state.ready


def test_a_second_signal_or_a_wedged_engine_is_killed_at_once_and_a_waiting_restart_ends() -> None:
    world = World(STAY).ready()
    world.send(StopRequested())
    assert world.send(StopRequested()) == [Do.KILL]
    wedged = World(LEAVE).ready()
    wedged.advance(20)
    assert wedged.send(StopRequested()) == [Do.KILL]
    waiting = World(STAY)
    waiting.send(Exited(CRASH))
    assert waiting.send(StopRequested()) == [Exit(0)]


def test_load_phases_are_measured_and_predict_the_next_load() -> None:
    world = World(STAY)
    world.now += 2
    world.send(Reported(PhaseReport(Phase.LOADING, 0.0)))
    world.now += 5
    world.send(Reported(PhaseReport(Phase.WARMING)))
    world.now += 1
    world.ready()
    assert dict(world.state.load_phases) == {"Starting": 2.0, "Loading": 5.0, "Warming": 1.0}
    world.send(Exited(CRASH))
    world.advance(1)
    assert world.state.last_load_seconds == 8.0 and world.state.phase is Phase.STARTING


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_within_half_and_whole_of_the_capped_doubling(failures: int, jitter: float) -> None:
    wait = backoff(failures, jitter, STAY)
    assert 0.5 <= wait <= 60.0


reports = st.one_of(
    st.builds(PhaseReport, st.sampled_from(Phase), st.none() | st.floats(0, 1)),
    st.builds(ReadyReport, st.integers(1, 65535), told=st.booleans()),
    st.just(DrainedReport()),
    st.builds(StepReport, st.integers(0, 4), st.integers(0, 4), st.integers(0, 9), st.sampled_from([0.0, 0.1, 20.0])),
    st.builds(FailureReport, st.sampled_from(FailureClass), st.text(max_size=5)),
)
events = st.one_of(
    st.builds(Reported, reports),
    st.builds(
        Exited, st.builds(FailureRecord, st.sampled_from(FailureClass), st.just("m"), st.just("r"), st.just("p"))
    ),
    st.just(CanaryAnswered()),
    st.just(StopRequested()),
    st.just(Tick()),
)


@given(st.booleans(), st.lists(st.tuples(st.floats(0, 50), events), max_size=60))
def test_whatever_happens_one_engine_at_a_time_and_no_promise_is_broken(
    restart: bool, history: list[tuple[float, Event]]
) -> None:
    world = World(STAY if restart else LEAVE)
    engines = 1
    for seconds, event in history:
        world.now += seconds
        if isinstance(event, Exited):
            if not world.state.alive:
                continue
            engines -= 1
        stopping = world.state.stopping
        actions = world.send(event)
        engines += actions.count(Do.START)
        assert engines in (0, 1) and world.state.alive == (engines == 1)
        if {Do.DRAIN, Do.TERMINATE, Do.KILL} & set(actions):
            assert engines == 1
        if world.state.ready:
            assert world.state.port and not world.state.stopping and world.state.live
        if stopping:
            assert Do.START not in actions and not world.state.ready
        ends = [action for action in actions if isinstance(action, Exit)]
        if ends:
            assert engines == 0
            assert ends[0].code == (0 if world.state.stopping else 1)
            break
        when = next_wakeup(world.state, world.policy)
        assert world.state.alive or when is not None, "never waits for nothing"
        if world.state.stopping:
            assert when is not None, "a drain always ends"
