"""What the console's page shows of this machine's services beyond what the gateway knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmservice_cli.local.status import PATIENCE
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_gateway.console.facts import LOCAL, Json, Told
from llmservice_gateway.console.summary import State

if TYPE_CHECKING:
    from llmservice_cli.local.instance import Instance

NO_EVENTS = "Events are kept by clusters; on this machine `llmservice logs` has what replicas say."
UNDECIDED = "Demand decides nothing about it: it has no spec.scaling, or is being prepared."


class LocalFacts:
    """`Facts` of an instance."""

    place = LOCAL

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def object(self, service: str) -> Json | None:
        """As `llmservice ps -o yaml` has it."""
        return self._instance.object(service)

    def wanted(self, service: str) -> int | None:
        """As its manifest, a person or demand says."""
        return self._instance.wanted(service)

    def elsewhere(self, service: str) -> tuple[int, int]:
        """There is one gateway."""
        return 0, 0

    async def replicas(self, service: str) -> Sequence[Json]:
        """All that exist, the serving ones first."""
        return [replica(facts) for facts in self._instance.replicas(service)]

    async def events(self, service: str) -> Told:
        """None, and where to look instead."""
        return Told([], NO_EVENTS)

    async def explain(self, service: str) -> Told:
        """As `llmservice explain` has it."""
        told = self._instance.explain(service)
        return Told(told, "" if told else UNDECIDED)


def replica(facts: ReplicaFacts) -> Json:
    """One replica as the page has it."""
    failure = facts.failure if not facts.ready else None
    return {
        "name": facts.name,
        "state": _state(facts).value,
        "phase": facts.phase,
        "percent": facts.percent,
        "etaSeconds": facts.eta,
        "running": facts.running,
        "waiting": facts.waiting,
        "restarts": facts.restarts,
        "gpus": list(facts.gpus),
        "failure": failure and {"reason": str(failure.failure), "message": failure.message, "remedy": failure.remedy},
        "note": f"It {facts.queued}." if facts.queued else facts.crowded,
    }


def _state(facts: ReplicaFacts) -> State:
    if facts.draining:
        return State.DRAINING
    if facts.ready:
        return State.READY
    if facts.gave_up or (facts.failure is not None and not facts.held and facts.restarts >= PATIENCE):
        return State.FAILED
    return State.WAITING if facts.held else State.STARTING
