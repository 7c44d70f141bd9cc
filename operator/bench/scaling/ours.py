"""Our policy, asked as the operator asks it."""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import mean

from bench.scaling.policies import Past
from bench.scaling.replica import Machine
from llmservice_scaling.policy import decide
from llmservice_scaling.rules import Capacity, Rules
from llmservice_scaling.signals import Reading, Signals
from llmservice_scaling.state import State

MEAN_SAMPLES = 5
WALL = datetime(2026, 1, 1, tzinfo=UTC)


class Ours:
    """At its defaults; capacity as a plan and a replica's own measurements, also of its load, tell it. What replicas
    have not begun is held: our gateway gives them hardly more than they have places for."""

    period = 5.0

    def __init__(
        self,
        machine: Machine,
        least: int = 1,
        most: int = 16,
        cold_start: float = 90.0,
        rules: Rules | None = None,
    ) -> None:
        self._machine, self._cold_start = machine, cold_start
        self._rules = rules or Rules(min_replicas=least, max_replicas=most)
        self._state: State | None = None

    def __call__(self, past: Past, current: int, now: float) -> int:
        last = past[-1]

        def told(value: float) -> Reading:
            return Reading(value, last.at)

        signals = Signals(
            replicas=current,
            starting=current - last.ready,
            held=told(last.waiting),
            in_flight=told(last.in_flight - last.waiting),
            engine_requests=told(last.in_flight - last.waiting),
            waiting_tokens=told(last.waiting_tokens),
            prompt_rate=told(last.prompt_rate),
            request_rate=told(last.request_rate),
            answer_rate=told(last.request_rate * last.mean_answer),
            mean_requests=told(mean(one.in_flight for one in past[-MEAN_SAMPLES:])),
            kv_used=told(last.kv * last.ready),
        )
        capacity = Capacity(
            max_sequences=self._machine.sequences,
            kv_tokens=self._machine.kv_tokens,
            tokens_per_request=last.mean_prompt + last.mean_answer or None,
            prompt_tokens_per_second=self._machine.prompt_rate,
            answer_tokens_per_second=self._machine.answer_rate,
            load_seconds=self._cold_start,
            answer_tokens=last.mean_answer or None,
        )
        outcome = decide(self._state, signals, self._rules, capacity, now, WALL)
        self._state = outcome.state
        return outcome.decision.replicas
