"""What running replicas hold of this machine's memory, and whether one more fits beside them. Pure; sizes in bytes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from llmservice_planning.words import memory as words


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

    def short(self, model: str, need: int) -> int:
        """What is missing for another replica; 0 = it fits. A file that another one has mapped is there already."""
        return max(0, need - self.shared(model, need) - self.left)

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

    def beside(self, service: str, model: str, need: int) -> Memory:
        """Once another replica was promised what it needs."""
        promised = need - self.shared(model, need)
        return replace(self, holds=(*self.holds, Hold(service, model, promised, instance=self.instance)))

    def shared(self, model: str, need: int) -> int:
        """What of it is there already."""
        return min(need, max((hold.mapped for hold in self.holds if hold.model == model), default=0))


def taken(holds: Iterable[Hold]) -> int:
    """What these have or may have together: a file that several have mapped is there once."""
    size, files = 0, dict[str, int]()
    for hold in holds:
        size += hold.size - hold.mapped
        files[hold.model] = max(files.get(hold.model, 0), hold.mapped)
    return size + sum(files.values())


def shortage(service: str, model: str, need: int, memory: Memory, ahead: int = 0) -> str:
    """Why another replica can't start, in a sentence; empty = it can. `ahead` is for others that wait for longer."""
    if not memory.short(model, need + ahead):
        return ""
    if ahead and not memory.short(model, need):
        return f"A replica of {service} waits for its turn: what is left is for others that have waited for longer."
    wants = need - memory.shared(model, need)
    return (
        f"A replica of {service} takes {words(wants)} of memory, and {words(max(0, memory.left))} of"
        f" {words(memory.most)} are left.{held(memory.holds)}"
    )


def held(holds: Sequence[Hold], instance: int | None = None) -> str:
    """` default/a holds 4.4 GiB, ...`: a sentence to add; empty when nothing runs.

    `instance` is the pid of the one that is spoken to, by default this process.
    """
    here = os.getpid() if instance is None else instance
    by_service: dict[str, int] = {}
    for hold in holds:
        elsewhere = f" (of another instance, pid {hold.instance})" if hold.instance != here else ""
        name = hold.service + elsewhere
        by_service[name] = by_service.get(name, 0) + hold.size
    parts = [f"{name} holds {words(size)}" for name, size in by_service.items()]
    return f" {', '.join(parts)}; other programs have the rest." if parts else ""
