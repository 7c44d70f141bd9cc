"""Signals of a test: everything told now, and whatever the test says else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from llmservice_scaling.decision import Decision
from llmservice_scaling.policy import decide
from llmservice_scaling.rules import Capacity, Rules
from llmservice_scaling.signals import Reading, Signals
from llmservice_scaling.state import State

CAPACITY = Capacity(64, 120_000, 1_500.0, 12_000.0, 1_800.0)
MONDAY = datetime(2026, 6, 1, tzinfo=UTC)
READINGS = (
    "held",
    "in_flight",
    "engine_requests",
    "waiting_tokens",
    "prompt_rate",
    "request_rate",
    "answer_rate",
    "mean_requests",
    "kv_used",
)


def told(now: float, replicas: int, starting: int = 0, **values: float | Reading) -> Signals:
    """What is not given is 0, told now."""
    readings = {name: values.get(name, 0.0) for name in READINGS}
    as_read = {name: one if isinstance(one, Reading) else Reading(one, now) for name, one in readings.items()}
    return Signals(replicas, starting, **as_read)


@dataclass
class Service:
    """Time goes on by `tick`; what is decided is done at once, unless it is to start for some seconds."""

    rules: Rules
    replicas: int = 1
    now: float = 1_000.0
    state: State | None = None
    capacity: Capacity = CAPACITY
    decisions: list[Decision] = field(default_factory=list)

    def tick(self, seconds: float = 5.0, starting: int = 0, **values: float | Reading) -> Decision:
        """One decision, `seconds` after the last."""
        self.now += seconds
        signals = told(self.now, self.replicas, starting, **values)
        return self.decide(signals)

    def decide(self, signals: Signals) -> Decision:
        """And do it."""
        wall = MONDAY + timedelta(seconds=self.now)
        outcome = decide(self.state, signals, self.rules, self.capacity, self.now, wall)
        self.state, self.replicas = outcome.state, outcome.decision.replicas
        self.decisions.append(outcome.decision)
        return outcome.decision

    def pass_time(self, seconds: float, step: float = 5.0, **values: float | Reading) -> Decision:
        """Decisions every `step`, for so long; the last one."""
        for _ in range(round(seconds / step)):
            self.tick(step, 0, **values)
        return self.decisions[-1]

    def new_leader(self) -> None:
        """Who remembers nothing."""
        self.state = None


def of(decision: Decision, signal: str) -> str:
    """Why that signal did what it did."""
    return next(one.why for one in decision.signals if one.wanted.signal == signal)


__all__ = ["CAPACITY", "MONDAY", "READINGS", "Reading", "Rules", "Service", "of", "replace", "told"]
