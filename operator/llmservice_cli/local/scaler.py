"""How many replicas of one service are to run here: what gateway and replicas tell, put to the policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from llmservice_cli.local.order import Order
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_gateway.demand import Demand
from llmservice_gateway.rates import SECONDS as FADING_SECONDS
from llmservice_scaling.asked import rules
from llmservice_scaling.decision import Decision
from llmservice_scaling.demand import expected_answer
from llmservice_scaling.explained import Change, Json
from llmservice_scaling.policy import decide
from llmservice_scaling.rules import Capacity, Rules
from llmservice_scaling.signals import Reading, Signals
from llmservice_scaling.state import State
from llmservice_scaling.told import ScalingTold, Telling, stamp

LOOK_SECONDS = 0.25
"""Between two decisions: a held request waits no longer for its replica to be started."""
NO_ROOM_SECONDS = 60.0
"""After a replica found no room beside others, none is tried again for so long."""
GAVE_WAY = "GaveWay"
"""Reason of a change that another service's need brought."""
ONE_CAME = 0.5 / FADING_SECONDS
"""Half of what one request adds to the rate; two clocks are read a little apart."""


class Scaler:
    """Remembers what the policy and the fading rates of the gateway need from one look to the next."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._arrivals = 0.0
        self._looked_at = -math.inf
        self._room: tuple[float, int] | None = None
        """(until when, how many found room)."""
        self.said = ""
        """Why there are as many as there are."""
        self._dry_run = False
        self._telling = Telling()

    def decide(
        self, order: Order, replicas: Sequence[ReplicaFacts], demand: Demand, now: float, wall: datetime
    ) -> Decision:
        """`now` is monotonic, in seconds."""
        bounds = self._rules(order, replicas, now)
        signals = self._signals(order, replicas, demand, now)
        outcome = decide(self._state, signals, bounds, _capacity(order, replicas, demand), now, wall)
        self._dry_run = not order.managed
        self._telling.decided(outcome.decision, now, wall, dry_run=self._dry_run)
        if order.managed and outcome.decision.replicas != order.replicas:
            self._telling.wrote(wall)
        self._state = outcome.state
        self.said = outcome.decision.sentence
        return outcome.decision

    def gave_way(self, before: int, left: int, why: str, now: float, wall: datetime) -> None:
        """Replicas made room for another service: what was wanted before does not bring them back."""
        if left:
            self._room = now + NO_ROOM_SECONDS, left
        elif self._state is not None:
            self._state = self._state.forget()
        self.said = why
        self._telling.changed(Change(stamp(wall), before, left, GAVE_WAY, why))

    @property
    def told(self) -> ScalingTold | None:
        """For status."""
        return self._telling.told

    def keeps(self, order: Order) -> int | None:
        """Replicas that stay whatever other services need; None = all of them."""
        decision = self._telling.decision
        warm = decision.warm_floor if decision is not None else 0
        return None if order.keeps is None else max(order.keeps, warm)

    def explain(self, name: str, now: float, *notes: str) -> Json:
        """The last decision with each signal, and the last ones that changed something."""
        if self._dry_run:
            notes = ("dryRun is set: this is told, and not done.", *notes)
        return self._telling.explain(name, now, notes)

    def _rules(self, order: Order, replicas: Sequence[ReplicaFacts], now: float) -> Rules:
        """No more than there is room for; what finds none is ended, and tried again later."""
        scaling = order.service.spec.scaling
        assert scaling is not None
        fit = sum(not facts.held for facts in replicas)
        if 0 < fit < len(replicas):
            self._room = now + NO_ROOM_SECONDS, fit
        elif self._room is not None and now >= self._room[0]:
            self._room = None
        most = self._room[1] if self._room else None
        return rules(scaling, most)

    def _signals(self, order: Order, replicas: Sequence[ReplicaFacts], demand: Demand, now: float) -> Signals:
        came = self._came(demand.arrivals_per_second, now)

        def told(value: float) -> Reading:
            return Reading(value, now)

        return Signals(
            replicas=order.replicas,
            starting=sum(not (facts.ready or facts.gave_up or facts.held) for facts in replicas),
            held=told(demand.held),
            in_flight=told(demand.in_flight),
            engine_requests=told(sum(facts.running + facts.waiting for facts in replicas)),
            waiting_tokens=told(demand.waiting_tokens),
            prompt_rate=told(max(demand.tokens_per_second, came) if came else 0.0),
            request_rate=told(demand.arrivals_per_second if came else 0.0),
            answer_rate=told(demand.arrivals_per_second * _answer(demand) if came else 0.0),
            mean_requests=told(demand.mean_requests),
            kv_used=None,
        )

    def _came(self, arrivals: float, now: float) -> float:
        """Requests per second since the last look: the gateway's rate fades, and is never 0 again by itself."""
        faded = self._arrivals * math.exp(-max(0.0, now - self._looked_at) / FADING_SECONDS)
        self._arrivals, self._looked_at = arrivals, now
        more = arrivals - faded
        return more if more > ONE_CAME else 0.0


def _answer(demand: Demand) -> float:
    return expected_answer(demand.arrivals, demand.held + demand.in_flight, demand.answered_tokens)


def _capacity(order: Order, replicas: Sequence[ReplicaFacts], demand: Demand) -> Capacity:
    settings = order.settings
    assert settings is not None
    load = next((facts.load for facts in replicas if facts.load is not None), None)
    return Capacity.planned(
        settings.max_sequences,
        settings.kv_tokens,
        demand.in_flight_tokens,
        demand.in_flight,
        load.prompt_tokens_per_second if load else None,
        load.together_tokens_per_second if load else None,
        load.milliseconds / 1000 if load else None,
        _answer(demand),
    )
