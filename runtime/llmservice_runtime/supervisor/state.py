"""What the supervisor decides, as one pure function: (state, event, now) -> (state, actions).

Times are `time.monotonic()` seconds, given by the caller; nothing here reads a clock, a process or a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.report import Phase
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
from llmservice_runtime.supervisor.reports import (
    AdaptersReport,
    DrainedReport,
    FailureReport,
    PhaseReport,
    ReadyReport,
    Report,
    StepReport,
)

STOP_MARGIN_SECONDS = 10.0
"""What an engine gets beyond its drain time to end its streams with an error and to exit."""

LOADING_STOP_SECONDS = 2.0
"""What one that still loads gets to exit: it has nothing to finish."""

PATIENCE = 10.0
"""A step may take so many times what the engine's measured speed makes of it, however short the bound."""

HOPELESS = frozenset(
    {
        FailureClass.BAD_ARGUMENT,
        FailureClass.UNSUPPORTED_FORMAT,
        FailureClass.DOES_NOT_FIT,
        FailureClass.ENGINE_NOT_INSTALLED,
        FailureClass.DRIVER_TOO_OLD,
        FailureClass.MODEL_NOT_FOUND,
        FailureClass.MODEL_GATED,
        FailureClass.MODEL_DAMAGED,
        FailureClass.PORT_IN_USE,
    }
)
"""Another start gives the same answer: these are never retried here."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds in seconds. `restart` = start the engine again here (on one machine); else end and let the kubelet."""

    restart: bool = False
    load_seconds: float = 600.0
    progress_seconds: float = 60.0
    drain_seconds: float = 300.0
    canary_seconds: float = 10.0
    """An idle engine is asked this often whether it still answers."""
    backoff_seconds: float = 1.0
    backoff_limit_seconds: float = 60.0
    stable_seconds: float = 60.0
    """Ready for this long ends a series of failures."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything the probes show."""

    phase: Phase = Phase.STARTING
    progress: float | None = None
    detail: str = ""
    alive: bool = False
    """An engine process exists."""
    started_at: float = 0.0
    phase_at: float = 0.0
    ready_at: float | None = None
    port: int = 0
    running: int = 0
    waiting: int = 0
    kv_used: float | None = None
    """Share of the KV cache that requests use; None = the engine has not told."""
    steps: int = 0
    step_seconds: float = 0.0
    """What the step at hand takes by the engine's measured speed; 0 = not known."""
    progress_at: float = 0.0
    """Last sign of forward progress: a step while busy, an answered canary while idle."""
    worked_at: float | None = None
    """When it last had a request, by what it told every second or by the steps in between; None = it had none yet."""
    canary_at: float = 0.0
    restarts: int = 0
    failures: int = 0
    """In a row."""
    retry_at: float | None = None
    wedged: bool = False
    stopping: bool = False
    told: bool = False
    """The engine drains when it is told on the control pipe; SIGTERM is for when it has."""
    terminate_at: float | None = None
    """It was told to drain; here at the latest SIGTERM follows."""
    kill_at: float | None = None
    killed_for: FailureRecord | None = None
    reported: FailureReport | None = None
    last_failure: FailureRecord | None = None
    load_phases: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Seconds per load phase of the current (or last) start."""
    last_load_seconds: float | None = None

    @property
    def ready(self) -> bool:
        """Requests may come: loaded, self-test passed, not draining, moving forward."""
        return self.alive and self.phase is Phase.READY and not self.stopping and not self.wedged

    @property
    def live(self) -> bool:
        """/livez: false only when a loaded engine stopped moving forward."""
        return not self.wedged

    @property
    def busy(self) -> bool:
        """Requests are in the engine, so steps must come."""
        return self.running > 0 or self.waiting > 0

    def patience(self, policy: Policy) -> float:
        """Seconds without a sign of progress that are too many: the policy's, or more on a machine as slow as this."""
        return max(policy.progress_seconds, PATIENCE * self.step_seconds if self.busy else 0.0)


Step = tuple[State, list[Action]]


def step(state: State, event: Event, now: float, policy: Policy) -> Step:
    """The next state, and what to do now, in order."""
    match event:
        case Begin():
            return _start(state, now)
        case Reported(report):
            return _reported(state, report, now)
        case CanaryAnswered():
            return _progressed(state, now) if not state.busy else (state, [])
        case StopRequested():
            return _stop(state, now, policy)
        case Exited(record, jitter):
            return _exited(state, record, jitter, now, policy)
        case Tick():
            return _tick(state, now, policy)


def next_wakeup(state: State, policy: Policy) -> float | None:
    """When the next Tick can change something; None = only an event can."""
    times: list[float] = []
    if state.retry_at is not None:
        times.append(state.retry_at)
    if state.terminate_at is not None:
        times.append(state.terminate_at)
    if state.kill_at is not None:
        times.append(state.kill_at)
    if state.alive and not state.stopping and state.killed_for is None:
        if state.ready_at is None:
            times.append(state.started_at + policy.load_seconds)
        else:
            if not state.wedged:
                times.append(state.progress_at + state.patience(policy))
            if not state.busy:
                times.append(state.canary_at + policy.canary_seconds)
    return min(times, default=None)


def backoff(failures: int, jitter: float, policy: Policy) -> float:
    """Seconds before start number `failures` + 1: doubling, capped, the upper half spread by `jitter`."""
    whole = min(policy.backoff_limit_seconds, policy.backoff_seconds * 2.0 ** min(failures - 1, 30))
    return whole * (0.5 + 0.5 * jitter)


def _start(state: State, now: float) -> Step:
    fresh = State(
        alive=True,
        started_at=now,
        phase_at=now,
        progress_at=now,
        restarts=state.restarts,
        failures=state.failures,
        last_failure=state.last_failure,
        last_load_seconds=state.last_load_seconds,
    )
    return fresh, [Do.START]


def _reported(state: State, report: Report, now: float) -> Step:
    if not state.alive:
        return state, []
    match report:
        case FailureReport():
            return replace(state, reported=report), []
        case StepReport():
            return _stepped(state, report, now)
        case AdaptersReport():
            return state, []  # of no matter to the life of the engine
        case DrainedReport():
            return _terminate(state, now) if state.terminate_at is not None else (state, [])
        case ReadyReport(port):
            if state.ready_at is not None or state.stopping:
                return state, []
            state = _enter(state, Phase.READY, now)
            loaded = now - state.started_at
            state = replace(state, port=port, ready_at=now, progress_at=now, canary_at=now, last_load_seconds=loaded)
            return replace(state, detail=report.detail, told=report.told), []
        case PhaseReport(phase, progress, detail):
            loaded_or_leaving = state.ready_at is not None or state.stopping
            if loaded_or_leaving or phase in (Phase.READY, Phase.DRAINING, Phase.FAILED):
                return state, []  # ready is told by `ready` alone; draining and failing are ours to say
            return replace(_enter(state, phase, now), progress=progress, detail=detail), []


def _enter(state: State, phase: Phase, now: float) -> State:
    """A new phase; the time spent in the one before is kept for the metrics and the ETA."""
    if phase is state.phase:
        return state
    phases = dict(state.load_phases)
    if state.ready_at is None:
        phases[state.phase.value] = phases.get(state.phase.value, 0.0) + now - state.phase_at
    return replace(state, phase=phase, phase_at=now, progress=None, detail="", load_phases=MappingProxyType(phases))


def _stepped(state: State, report: StepReport, now: float) -> Step:
    was_busy, moved = state.busy, report.steps != state.steps
    state = replace(
        state,
        running=report.running,
        waiting=report.waiting,
        kv_used=report.kv_used,
        steps=report.steps,
        step_seconds=report.seconds,
        worked_at=now if moved or report.running or report.waiting else state.worked_at,
    )
    if moved or not was_busy or not state.busy:
        return _progressed(state, now)
    return state, []


def _progressed(state: State, now: float) -> Step:
    recovered = state.wedged and state.killed_for is None
    state = replace(state, progress_at=now, wedged=state.wedged and not recovered)
    return state, [Do.CLEAR_RECORD] if recovered else []


def _stop(state: State, now: float, policy: Policy) -> Step:
    if not state.alive:
        return replace(state, stopping=True, retry_at=None, phase=Phase.DRAINING), [Exit(0)]
    if state.stopping or state.wedged:
        return replace(state, stopping=True, terminate_at=None, kill_at=now), [Do.KILL]
    patience = LOADING_STOP_SECONDS if state.ready_at is None else policy.drain_seconds + STOP_MARGIN_SECONDS
    state = replace(_enter(state, Phase.DRAINING, now), stopping=True, kill_at=now + patience)
    if not state.told:
        return state, [Do.TERMINATE]
    # Half of the margin is for its streams to end with an error, the rest for it to exit.
    return replace(state, terminate_at=now + patience - STOP_MARGIN_SECONDS / 2), [Do.DRAIN]


def _terminate(state: State, now: float) -> Step:
    """An engine that was told to drain has done so, or has had its time."""
    kill_at = now + STOP_MARGIN_SECONDS
    return replace(state, terminate_at=None, kill_at=min(state.kill_at or kill_at, kill_at)), [Do.TERMINATE]


def _exited(state: State, record: FailureRecord, jitter: float, now: float, policy: Policy) -> Step:
    stable = state.ready_at is not None and now - state.ready_at >= policy.stable_seconds
    if not state.stopping:
        state = _enter(state, Phase.FAILED, now)
    state = replace(state, alive=False, running=0, waiting=0, kv_used=None, worked_at=None, port=0, kill_at=None)
    state = replace(state, ready_at=None, wedged=False)
    state = replace(state, told=False, terminate_at=None)
    if state.stopping:
        return state, [Exit(0)]
    failures = 1 if stable else state.failures + 1
    state = replace(state, failures=failures, last_failure=record, detail=record.message)
    if not policy.restart or record.failure in HOPELESS:
        return state, [Record(record), Exit(1)]
    state = replace(state, restarts=state.restarts + 1, retry_at=now + backoff(failures, jitter, policy))
    return state, [Record(record)]


def _tick(state: State, now: float, policy: Policy) -> Step:
    if state.retry_at is not None and now >= state.retry_at:
        return _start(state, now)
    if not state.alive:
        return state, []
    if state.kill_at is not None and now >= state.kill_at:
        return replace(state, kill_at=now + STOP_MARGIN_SECONDS), [Do.KILL]
    if state.terminate_at is not None and now >= state.terminate_at:
        return _terminate(state, now)
    if state.stopping or state.killed_for is not None:
        return state, []
    if state.ready_at is None:
        return _check_load(state, now, policy)
    return _check_progress(state, now, policy)


def _check_load(state: State, now: float, policy: Policy) -> Step:
    if now - state.started_at < policy.load_seconds:
        return state, []
    record = FailureRecord(
        FailureClass.LOAD_TIMEOUT,
        f"The engine was not ready after {policy.load_seconds:.0f} s; it was in phase {state.phase.value}"
        f" for {now - state.phase_at:.0f} s{f' ({state.detail})' if state.detail else ''}.",
        "Give it more time (engine.loadSeconds), or put the model on a faster disk.",
        state.phase.value,
    )
    return replace(state, killed_for=record, kill_at=now + STOP_MARGIN_SECONDS), [Do.KILL]


def _check_progress(state: State, now: float, policy: Policy) -> Step:
    actions: list[Action] = []
    if not state.busy and now - state.canary_at >= policy.canary_seconds:
        state = replace(state, canary_at=now)
        actions.append(Do.CANARY)
    if state.wedged or now - state.progress_at < state.patience(policy):
        return state, actions
    record = _no_progress(state, now - state.progress_at)
    state = replace(state, wedged=True, last_failure=record)
    if not policy.restart:
        return state, [Record(record)]
    return replace(state, killed_for=record, kill_at=now + STOP_MARGIN_SECONDS), [Record(record), Do.KILL]


def _no_progress(state: State, seconds: float) -> FailureRecord:
    what = (
        f"{state.running} requests ran and {state.waiting} waited, but no step was completed for {seconds:.0f} s"
        f" (after step {state.steps})."
        if state.busy
        else f"The idle engine has not answered on its port for {seconds:.0f} s."
    )
    return FailureRecord(
        FailureClass.NO_PROGRESS,
        what,
        "It is restarted. When this comes back under long prompts, raise engine.progressSeconds.",
        state.phase.value,
    )
