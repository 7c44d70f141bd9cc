"""What running replicas hold of this machine's memory, and whether one more fits beside them. Pure; sizes in bytes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from llmservice_cli.local import gpus as cards
from llmservice_cli.local.gpus import NO_GPU, GpuNeed, dealt
from llmservice_planning.words import memory as words
from llmservice_runtime.machine.machine import Gpu


@dataclass(frozen=True, slots=True)
class Need:
    """What one replica takes: `bytes` of host memory, of which the model's file may be there already, and GPUs."""

    model: str
    bytes: int
    gpus: GpuNeed = NO_GPU


@dataclass(frozen=True, slots=True)
class Hold:
    """What one running replica was promised and has now. `mapped` of it are pages of the model's file."""

    service: str
    model: str
    promised: int
    resident: int = 0
    mapped: int = 0
    instance: int = 0
    """The pid of the one it belongs to."""
    replica: str = ""
    """Its name, which is unique within an instance."""
    gpus: tuple[str, ...] = ()
    """Ids of those that it has."""
    wants: GpuNeed = NO_GPU
    """GPUs that are kept for it, whichever these will be."""

    @property
    def missing(self) -> int:
        """What it may still take."""
        return max(0, self.promised - self.resident)

    @property
    def size(self) -> int:
        """What it has, or may have."""
        return max(self.promised, self.resident)


@dataclass(frozen=True, slots=True)
class Memory:
    """A machine at one moment, as one instance sees it. `free` counts no page that is mapped; `limit` is what the
    replicas of `instance` (a pid) may have together; None = no less than there is."""

    total: int
    free: int
    holds: tuple[Hold, ...] = ()
    limit: int | None = None
    instance: int = 0
    gpus: tuple[Gpu, ...] = ()
    """All that replicas may have."""

    @property
    def most(self) -> int:
        """What all replicas could have at most."""
        return self.total if self.limit is None else min(self.total, self.limit)

    @property
    def left(self) -> int:
        """What nobody has and nobody was promised; may be below 0."""
        left = self.free - sum(hold.missing for hold in self.holds)
        if self.limit is None:
            return left
        return min(left, self.limit - taken(hold for hold in self.holds if hold.instance == self.instance))

    def fits(self, need: Need) -> bool:
        """Whether another replica has room."""
        return not self.short(need) and not self.gpus_short(need.gpus)

    def short(self, need: Need) -> int:
        """Bytes that are missing for another replica. A file that another one has mapped is there already."""
        return max(0, need.bytes - self.shared(need) - self.left)

    def gpus_short(self, need: GpuNeed) -> int:
        """GPUs that are missing for another replica, beside what is kept for others."""
        if not need.count:
            return 0
        kept = self._kept
        unmet = sum(one.count for one in kept) - sum(map(len, dealt(kept, self.gpus, self.taken)))
        more = dealt([*kept, need], self.gpus, self.taken)
        return need.count + sum(one.count for one in kept) - sum(map(len, more)) - unmet

    def choose(self, need: GpuNeed) -> tuple[Gpu, ...]:
        """The GPUs of another replica, which fits."""
        return dealt([*self._kept, need], self.gpus, self.taken)[-1]

    @property
    def taken(self) -> frozenset[str]:
        """Ids of GPUs that somebody has."""
        return frozenset(gpu for hold in self.holds for gpu in hold.gpus)

    @property
    def _kept(self) -> list[GpuNeed]:
        return [hold.wants for hold in self.holds if hold.wants.count]

    def without(self, replicas: Collection[str]) -> Memory:
        """Once these replicas of the instance have ended."""
        gone = [hold for hold in self.holds if hold.instance == self.instance and hold.replica in replicas]
        stay = tuple(hold for hold in self.holds if hold not in gone)
        mapped = {hold.model for hold in stay if hold.mapped}
        anonymous = sum(hold.resident - hold.mapped for hold in gone)
        files: dict[str, int] = {}
        for hold in gone:
            if hold.model not in mapped:
                files[hold.model] = max(files.get(hold.model, 0), hold.mapped)
        return replace(self, free=self.free + anonymous + sum(files.values()), holds=stay)

    def beside(self, service: str, need: Need) -> Memory:
        """Once another replica was promised what it needs."""
        promised = need.bytes - self.shared(need)
        hold = Hold(service, need.model, promised, instance=self.instance, wants=need.gpus)
        return replace(self, holds=(*self.holds, hold))

    def after(self, others: Iterable[Need]) -> Memory:
        """Once others that wait were promised what they need."""
        memory = self
        for need in others:
            memory = memory.beside("", need)
        return memory

    def shared(self, need: Need) -> int:
        """What of its bytes is there already."""
        return min(need.bytes, max((hold.mapped for hold in self.holds if hold.model == need.model), default=0))


def taken(holds: Iterable[Hold]) -> int:
    """What these have or may have together: a file that several have mapped is there once."""
    size, files = 0, dict[str, int]()
    for hold in holds:
        size += hold.size - hold.mapped
        files[hold.model] = max(files.get(hold.model, 0), hold.mapped)
    return size + sum(files.values())


def shortage(service: str, need: Need, memory: Memory, ahead: Sequence[Need] = ()) -> str:
    """Why another replica can't start, in a sentence; empty = it can. `ahead` is for others that wait for longer."""
    if memory.after(ahead).fits(need):
        return ""
    if memory.fits(need):
        return f"A replica of {service} waits for its turn: what is left is for others that have waited for longer."
    said = []
    if memory.short(need):
        said.append(
            f"A replica of {service} takes {words(need.bytes - memory.shared(need))} of memory, and"
            f" {words(max(0, memory.left))} of {words(memory.most)} are left.{held(memory.holds)}"
        )
    if memory.gpus_short(need.gpus):
        said.append(cards.shortage(service, need.gpus, memory.gpus, owners(memory.holds)))
    return " ".join(said)


def owners(holds: Iterable[Hold], instance: int | None = None) -> Mapping[str, str]:
    """Ids of GPUs -> who has them. `instance` as in `held`."""
    return {gpu: _who(hold, instance) for hold in holds for gpu in hold.gpus}


def _who(hold: Hold, instance: int | None) -> str:
    here = os.getpid() if instance is None else instance
    return hold.service + (f" (of another instance, pid {hold.instance})" if hold.instance != here else "")


def held(holds: Sequence[Hold], instance: int | None = None) -> str:
    """` default/a holds 4.4 GiB, ...`: a sentence to add; empty when nothing runs.

    `instance` is the pid of the one that is spoken to, by default this process.
    """
    by_service: dict[str, int] = {}
    for hold in holds:
        name = _who(hold, instance)
        by_service[name] = by_service.get(name, 0) + hold.size
    parts = [f"{name} holds {words(size)}" for name, size in by_service.items()]
    return f" {', '.join(parts)}; other programs have the rest." if parts else ""
