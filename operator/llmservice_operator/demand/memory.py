"""What is remembered of a service from one decision to the next, and what of it is told. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from llmservice_operator.demand.gateways import Asked
from llmservice_operator.demand.replicas import Work
from llmservice_operator.demand.scaled import Scaled
from llmservice_scaling.explained import Json
from llmservice_scaling.policy import decide
from llmservice_scaling.state import State
from llmservice_scaling.told import ScalingTold, Telling


@dataclass(slots=True)
class Memory:
    """Of one service, by uid."""

    uid: str
    _telling: Telling = field(default_factory=Telling)
    _state: State | None = None
    _asked: tuple[int, int] | None = None
    """(replicas, version of the object) that was asked for last, or found first."""

    @property
    def told(self) -> ScalingTold | None:
        """For status."""
        return self._telling.told

    def decide(self, found: Scaled, asked: Asked, works: dict[str, Work], why: str, now: float, wall: datetime) -> int:
        """How many replicas there are to be. `why`: what is known of why not everything is told."""
        replicas = self._replicas(found)
        signals = found.signals(replicas, asked, works, now)
        outcome = decide(self._state, signals, found.rules, found.capacity(asked), now, wall)
        self._state = outcome.state
        self._telling.decided(outcome.decision, now, wall, why=why, dry_run=found.scaling.dry_run)
        return outcome.decision.replicas

    def overruled(self, found: Scaled) -> int | None:
        """How many somebody else asked for meanwhile; None = nobody did."""
        if self._asked is None or found.scaling.dry_run or found.version <= self._asked[1]:
            return None
        return found.replicas if found.replicas != self._asked[0] else None

    def there(self, found: Scaled) -> int:
        """What the object asks for, as far as is known: what was written last may be newer than what was read."""
        return self._asked[0] if self._asked is not None and found.version <= self._asked[1] else found.replicas

    def wrote(self, replicas: int, version: int, wall: datetime) -> None:
        """It was asked for through /scale."""
        self._asked = replicas, version
        self._telling.wrote(wall)

    def refused(self, why: str) -> None:
        """/scale refused it."""
        self._telling.refused(why)

    @property
    def sentence(self) -> str:
        """Why there are to be as many, without a full stop."""
        decision = self._telling.decision
        return decision.sentence if decision is not None else ""

    def explain(self, name: str, now: float, notes: Sequence[str] = ()) -> Json:
        """The last decision with each signal, and the last ones that changed something."""
        return self._telling.explain(name, now, notes)

    def _replicas(self, found: Scaled) -> int:
        """What was asked for last: what the cache has may be older, or somebody else's."""
        if found.scaling.dry_run:
            self._asked = None
            return found.replicas
        if self._asked is None:
            self._asked = found.replicas, found.version
        return self._asked[0]
