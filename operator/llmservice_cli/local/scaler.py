"""How many replicas of one service are to run here: what gateway and replicas tell, put to the policy."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from datetime import datetime

from llmservice_cli.local.order import Order
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_gateway.demand import Demand
from llmservice_gateway.rates import SECONDS as FADING_SECONDS
from llmservice_scaling.asked import rules
from llmservice_scaling.decision import Decision
from llmservice_scaling.demand import expected_answers
from llmservice_scaling.explained import MOST_CHANGES, Change, Json, as_json
from llmservice_scaling.policy import decide
from llmservice_scaling.rules import Capacity, Rules
from llmservice_scaling.signals import Reading, Signals
from llmservice_scaling.state import State

LOOK_SECONDS = 0.25
"""Between two decisions: a held request waits no longer for its replica to be started."""
NO_ROOM_SECONDS = 60.0
"""After a replica found no room beside others, none is tried again for so long."""
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
        self._decision: Decision | None = None
        self._dry_run = False
        self._changes: deque[Change] = deque(maxlen=MOST_CHANGES)

    def decide(
        self, order: Order, replicas: Sequence[ReplicaFacts], demand: Demand, now: float, wall: datetime
    ) -> Decision:
        """`now` is monotonic, in seconds."""
        bounds = self._rules(order, replicas, now)
        signals = self._signals(order, replicas, demand, now)
        outcome = decide(self._state, signals, bounds, _capacity(order, replicas, demand), now, wall)
        self._remember(order, outcome.decision, wall)
        self._state = outcome.state
        self.said = outcome.decision.sentence
        return outcome.decision

    def explain(self, name: str, now: float) -> Json:
        """The last decision with each signal, and the last ones that changed something."""
        notes = ["dryRun is set: this is told, and not done."] if self._dry_run else []
        return as_json(name, self._decision, now - self._looked_at, tuple(self._changes), notes)

    def _remember(self, order: Order, decision: Decision, wall: datetime) -> None:
        known = self._decision
        self._decision, self._dry_run = decision, not order.managed
        again = self._dry_run and known is not None and known.replicas == decision.replicas
        if decision.before != decision.replicas and not again:
            at, reason = wall.strftime("%Y-%m-%dT%H:%M:%SZ"), str(decision.reason)
            self._changes.append(
                Change(at, decision.before, decision.replicas, reason, decision.sentence, order.managed)
            )

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
            answer_rate=told(
                expected_answers(
                    demand.arrivals_per_second if came else 0.0,
                    demand.arrivals,
                    demand.held + demand.in_flight,
                    demand.answered_tokens,
                )
            ),
            kv_used=None,
        )

    def _came(self, arrivals: float, now: float) -> float:
        """Requests per second since the last look: the gateway's rate fades, and is never 0 again by itself."""
        faded = self._arrivals * math.exp(-max(0.0, now - self._looked_at) / FADING_SECONDS)
        self._arrivals, self._looked_at = arrivals, now
        more = arrivals - faded
        return more if more > ONE_CAME else 0.0


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
    )
