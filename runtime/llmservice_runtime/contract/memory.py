"""Memory line by line: what a plan has for a replica, and what its engine tells of itself once it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

GPU = "GPU"
HOST = "Host"
MOST_LINES = 16


class Part(StrEnum):
    """What a line is of. Engines tell of weights and cache, and of the engine on GPUs; the supervisor of the rest."""

    WEIGHTS = "Weights"
    CACHE = "Cache"
    SHARED = "Shared"
    """What processes hand each other in /dev/shm."""
    ENGINE = "Engine"
    """Everything else: processes, libraries, buffers."""
    RESERVE = "Reserve"
    """Kept free, and so never measured."""


TOLD = (Part.WEIGHTS, Part.CACHE, Part.ENGINE)
"""What engines tell of."""


@dataclass(frozen=True, slots=True)
class PlannedLine:
    """A line of a plan: bytes of all devices together; `where` is `GPU` or `Host`."""

    name: str
    part: Part
    where: str
    bytes: int

    @staticmethod
    def of(body: Mapping[str, Any]) -> PlannedLine:
        """The reverse of `asdict`, for what `contract.bounds` has checked."""
        return PlannedLine(body["name"], Part(body["part"]), body["where"], body["bytes"])


@dataclass(frozen=True, slots=True)
class HeldLine:
    """What an engine has of a part once it is loaded; `resident` of its bytes are in memory already (of a cache that is
    taken when it is written, few)."""

    part: Part
    where: str
    bytes: int
    resident: int

    @staticmethod
    def of(body: object) -> HeldLine | None:
        """From a report; None when it is something else."""
        if not isinstance(body, Mapping):
            return None
        size, there = _size(body.get("bytes")), _size(body.get("resident"))
        if body.get("part") not in TOLD or body.get("where") not in (GPU, HOST) or size is None or there is None:
            return None
        return HeldLine(Part(body["part"]), body["where"], size, min(size, there))


def together(lines: Iterable[HeldLine]) -> list[HeldLine]:
    """Of several processes: one line for each part and place."""
    sums: dict[tuple[Part, str], HeldLine] = {}
    for line in lines:
        before = sums.get((line.part, line.where), HeldLine(line.part, line.where, 0, 0))
        size, there = before.bytes + line.bytes, before.resident + line.resident
        sums[line.part, line.where] = replace(before, bytes=size, resident=there)
    return list(sums.values())


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
