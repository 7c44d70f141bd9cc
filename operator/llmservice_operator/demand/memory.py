"""What is remembered of a service from one decision to the next, and what of it is told. Pure.

Status is told what changes: how many there are to be, and whether demand is known. Not what each signal says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from llmservice_operator.demand.gateways import Asked
from llmservice_operator.demand.replicas import Work
from llmservice_operator.demand.scaled import Scaled
from llmservice_operator.facts.values import ScalingTold
from llmservice_scaling.decision import Decision
from llmservice_scaling.explained import MOST_CHANGES, Change, Json, as_json
from llmservice_scaling.policy import decide
from llmservice_scaling.state import State
from llmservice_scaling.words import unknown

UNKNOWN_SECONDS = 30.0
"""How long something is not known before it is told: one replica that is asked for the first time is no news."""


@dataclass(slots=True)
class Memory:
    """Of one service, by uid."""

    uid: str
    told: ScalingTold | None = None
    """For status."""
    _state: State | None = None
    _asked: tuple[int, int] | None = None
    """(replicas, version of the object) that was asked for last, or found first."""
    _decision: Decision | None = None
    _decided_at: float = 0.0
    _unknown_since: float | None = None
    _changes: deque[Change] = field(default_factory=lambda: deque(maxlen=MOST_CHANGES))

    def decide(self, found: Scaled, asked: Asked, works: dict[str, Work], why: str, now: float, wall: datetime) -> int:
        """How many replicas there are to be. `why`: what is known of why not everything is told."""
        replicas = self._replicas(found)
        signals = found.signals(replicas, asked, works, now)
        outcome = decide(self._state, signals, found.rules, found.capacity(asked), now, wall)
        self._state, self._decision, self._decided_at = outcome.state, outcome.decision, now
        self._tell(outcome.decision, found, why, now, wall)
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
        if self.told is not None:
            self.told = self.told.written(stamp(wall))

    def refused(self, why: str) -> None:
        """/scale refused it."""
        if self.told is not None:
            self.told = self.told.refused(why)

    @property
    def sentence(self) -> str:
        """Why there are to be as many, without a full stop."""
        return self._decision.sentence if self._decision is not None else ""

    def explain(self, name: str, now: float, notes: Sequence[str] = ()) -> Json:
        """The last decision with each signal, and the last ones that changed something."""
        return as_json(name, self._decision, now - self._decided_at, tuple(self._changes), notes)

    def _replicas(self, found: Scaled) -> int:
        """What was asked for last: what the cache has may be older, or somebody else's."""
        if found.scaling.dry_run:
            self._asked = None
            return found.replicas
        if self._asked is None:
            self._asked = found.replicas, found.version
        return self._asked[0]

    def _tell(self, decision: Decision, found: Scaled, why: str, now: float, wall: datetime) -> None:
        before = self.told
        known = before.unknown if before is not None else None
        if decision.metrics_available:
            self._unknown_since, known = None, ""
        elif self._unknown_since is None:
            self._unknown_since = now
        elif now - self._unknown_since >= UNKNOWN_SECONDS and not known:
            known = f"{unknown(decision)}{f' ({why})' if why else ''}"
        if before is not None and before.desired == decision.replicas:
            self.told = before.knows(known)
            return
        reason, sentence = str(decision.reason), decision.sentence
        self.told = ScalingTold(decision.replicas, reason, sentence, known, before.scaled_at if before else "")
        if decision.before != decision.replicas:
            done = not found.scaling.dry_run
            self._changes.append(Change(stamp(wall), decision.before, decision.replicas, reason, sentence, done))


def stamp(wall: datetime) -> str:
    """A time as the API writes it."""
    return wall.strftime("%Y-%m-%dT%H:%M:%SZ")
