"""GPUs as replicas get them: whole ones, each for one replica at a time. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from llmservice_planning.words import memory as words
from llmservice_runtime.machine.machine import Gpu


@dataclass(frozen=True, slots=True)
class GpuNeed:
    """What one replica takes: `count` GPUs of the product `kind`, `bytes` of memory on each of them."""

    kind: str = ""
    count: int = 0
    bytes: int = 0
    among: tuple[str, ...] = ()
    """Ids of those that it may have; empty = any of the kind."""


NO_GPU = GpuNeed()


def dealt(needs: Sequence[GpuNeed], gpus: Sequence[Gpu], taken: Collection[str]) -> list[tuple[Gpu, ...]]:
    """What each of several gets beside the others, in their order; fewer than it takes where there are no more. Who has
    the least choice chooses first."""
    given = set(taken)
    found: dict[int, tuple[Gpu, ...]] = {}
    for number in sorted(range(len(needs)), key=lambda number: len(suited(needs[number], gpus, taken))):
        need = needs[number]
        found[number] = tuple(suited(need, gpus, given)[: need.count])
        given |= {gpu.id for gpu in found[number]}
    return [found[number] for number in range(len(needs))]


def suited(need: GpuNeed, gpus: Iterable[Gpu], taken: Collection[str] = ()) -> list[Gpu]:
    """Those that it may have; last the ones of which other programs left it less than it takes."""
    found = [
        gpu
        for gpu in gpus
        if gpu.product == need.kind and gpu.id not in taken and (not need.among or gpu.id in need.among)
    ]
    return sorted(found, key=lambda gpu: gpu.free_bytes is not None and gpu.free_bytes < need.bytes)


def shortage(service: str, need: GpuNeed, gpus: Sequence[Gpu], owners: Mapping[str, str]) -> str:
    """Why a replica gets none, in a sentence or two. `owners`: ids of GPUs -> who has them."""
    mine = suited(need, gpus)
    free = [gpu for gpu in mine if gpu.id not in owners]
    takes = f"A replica of {service} takes {need.count} × {need.kind}"
    if not mine:
        return f"{takes}, and there is none that it may have."
    parts = [f"{owners[gpu.id]} has {gpu.name}" for gpu in mine if gpu.id in owners]
    has = f": {', '.join(parts)}" if parts else ""
    return f"{takes}, and {len(free) or 'none'} of {len(mine)} {'are' if len(free) > 1 else 'is'} free{has}."


def names(ids: Iterable[str], gpus: Iterable[Gpu]) -> tuple[str, ...]:
    """What people call them: `GPU 0`; the id of one that is not among `gpus`."""
    known = {gpu.id: gpu.name for gpu in gpus}
    return tuple(known.get(one, one) for one in ids)


def crowded(need: GpuNeed, gpus: Iterable[Gpu]) -> str:
    """That other programs have so much of these that it may be too little; empty = it is not known to be."""
    short = [gpu for gpu in gpus if gpu.free_bytes is not None and gpu.free_bytes < need.bytes]
    parts = [f"{words(gpu.free_bytes or 0)} of {words(gpu.memory_bytes)} are free on {gpu.name}" for gpu in short]
    return (
        f"{', '.join(parts)}; it is planned to take {words(need.bytes)}: other programs have the rest." if parts else ""
    )
