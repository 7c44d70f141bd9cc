"""Which adapters one replica loads before the others, in a cluster and on one machine: engines die of some. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llmservice_api.adapters_found import failed, serves, told_of
from llmservice_api.adapters_told import AdapterTold
from llmservice_runtime.contract.adapters import Adapter
from llmservice_runtime.contract.failure import FailureClass

Tried = Mapping[str, str]
"""By adapters' names: the replica that tries it, and that alone until it has it."""
NOTHING: Tried = {}


@dataclass(frozen=True, slots=True)
class Taster:
    """A replica that can be told of adapters. `told`: what it says of those that it has; None = nothing yet."""

    name: str
    ready: bool
    told: Sequence[AdapterTold] | None = None


def tried(
    wanted: Iterable[Adapter], before: Iterable[Adapter], tries: Tried, replicas: Sequence[Taster]
) -> dict[str, str]:
    """Of those that are wanted now; `before` and `tries` are what replicas were told last, `replicas` the oldest first.

    What was told to all stays so. A new one is for one replica that serves, until that has it, or can't have it for a
    reason that ends no engine. It stays with that replica when its engine dies of it, and goes to another when the
    replica is gone. Where none serves there is nothing to lose: all that start are told.
    """
    known = {adapter.name: adapter for adapter in before}
    found: dict[str, str] = {}
    for adapter in wanted:
        old = known.get(adapter.name) == adapter
        if (old and adapter.name not in tries) or not replicas:
            continue
        first = tries.get(adapter.name, "") if old else ""
        taster = next((one for one in replicas if one.name == first), None)
        if taster is not None:
            if not _over(adapter, taster):
                found[adapter.name] = first
        elif chosen := _chosen(replicas, {*found.values(), *tries.values()}) or first:
            found[adapter.name] = chosen
    return found


def _chosen(replicas: Sequence[Taster], tasters: set[str]) -> str:
    """One that tries another already, else the youngest; empty = none serves."""
    ready = [one.name for one in replicas if one.ready]
    return next((name for name in ready if name in tasters), ready[-1] if ready else "")


def _over(adapter: Adapter, taster: Taster) -> bool:
    said = told_of(adapter.name, adapter.uri, taster.told or ())
    revision = adapter.revision or ""
    if said is None:
        return False
    return serves(said, revision) or (failed(said, revision) and said.reason != FailureClass.CRASHED)
