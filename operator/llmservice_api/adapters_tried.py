"""Which adapters one replica loads before the others, in a cluster and on one machine: engines die of some. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from llmservice_api.adapters_found import failed, serves, told_of
from llmservice_api.adapters_told import AdapterTold
from llmservice_runtime.contract.adapters import Adapter, AdapterState
from llmservice_runtime.contract.failure import FailureClass

Tried = Mapping[str, str]
"""By adapters' names: the replica that tries it, and that alone until it has it."""
NOTHING: Tried = {}
BACK_SECONDS = 600.0
"""So long a replica that tries one may be away, or be asked in vain."""


@dataclass(frozen=True, slots=True)
class Taster:
    """A replica that can be told of adapters. `told`: what it says of those that it has, nothing where it was asked in
    vain; None = it was not asked yet. `steady`: seconds since it became ready, or ceased to be; 0 = it is not known."""

    name: str
    ready: bool
    told: Sequence[AdapterTold] | None = None
    steady: float = 0.0


def tried(
    wanted: Iterable[Adapter],
    before: Iterable[Adapter],
    tries: Tried,
    replicas: Sequence[Taster],
    died: Container[str] = (),
    trying: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Of those that are wanted now; `before` and `tries` are what replicas were told last, `replicas` the oldest first.

    What was told to all stays so. A new one is for one replica that serves, until that has it, or can't have it for a
    reason that ends no engine. It stays with that replica when its engine dies of it, and goes to another when the
    replica is gone, but for those in `died`: an engine did, so nobody else is told. Where none serves there is nothing
    to lose: all that start are told. `trying`: seconds for which each has been tried; BACK_SECONDS with a replica that
    can't be asked, and that served all the while, are enough.
    """
    known = {adapter.name: adapter for adapter in before}
    found: dict[str, str] = {}
    for adapter in wanted:
        old = known.get(adapter.name) == adapter
        first = tries.get(adapter.name, "") if old else ""
        if old and not first:
            continue
        taster = next((one for one in replicas if one.name == first), None)
        if taster is not None:
            if not _over(adapter, taster, 0.0 if adapter.name in died else (trying or {}).get(adapter.name, 0.0)):
                found[adapter.name] = first
        elif first and adapter.name in died:
            found[adapter.name] = first
        elif replicas and (chosen := _chosen(replicas, {*found.values(), *tries.values()}) or first):
            found[adapter.name] = chosen
    return found


def says(adapter: Adapter, taster: Taster | None, died: AdapterTold | None, trying: float = 0.0) -> AdapterTold | None:
    """What the replica says that tries it, or said before it went (`died`: that an engine died of it). One that is away
    for BACK_SECONDS, or that was and can't be asked, counts as one whose engine died."""
    said = taster and told_of(adapter.name, adapter.uri, taster.told or ())
    if said or died or taster is None:
        return said or died
    away = not taster.ready or (taster.told is not None and taster.steady < trying)
    if not away or taster.steady < BACK_SECONDS:
        return None
    message = (
        f"Replica {taster.name} tried it and has not come back, or can't be asked what became of it. To have it tried"
        " once more as it is, take it away and then add it again."
    )
    told = AdapterTold(adapter.name, adapter.uri, adapter.revision or "", AdapterState.FAILED)
    return replace(told, reason=FailureClass.CRASHED, message=message)


def dead(said: AdapterTold | None, revision: str) -> bool:
    """Whether it says that an engine died of this very revision."""
    return said is not None and failed(said, revision) and said.reason == FailureClass.CRASHED


def _chosen(replicas: Sequence[Taster], tasters: set[str]) -> str:
    """One that tries another already, else the youngest; empty = none serves."""
    ready = [one.name for one in replicas if one.ready]
    return next((name for name in ready if name in tasters), ready[-1] if ready else "")


def _over(adapter: Adapter, taster: Taster, trying: float) -> bool:
    said = told_of(adapter.name, adapter.uri, taster.told or ())
    revision = adapter.revision or ""
    if said is None:
        return taster.told is not None and taster.ready and taster.steady >= trying >= BACK_SECONDS
    return serves(said, revision) or (failed(said, revision) and said.reason != FailureClass.CRASHED)
