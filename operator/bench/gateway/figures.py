"""What was measured of each proxy, and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.gateway.clients import Seen


@dataclass(frozen=True, slots=True)
class Decoding:
    """Of a proxy under streams as an engine decodes them. `cpu`: seconds for each chunk; `memory`: peak bytes."""

    cpu: float
    seen: Sequence[Seen]
    memory: int

    @property
    def apart(self) -> float:
        """Share of chunks that came by themselves.

        A proxy that waits for a processor passes several on at once, which is cheaper: where this is not near 1,
        the machine had too much else to do (or the proxy too much), and its figure says little.
        """
        return sum(seen.pieces for seen in self.seen) / sum(seen.pace.chunks for seen in self.seen)

    def __str__(self) -> str:
        return f"{self.cpu * 1e6:.1f} us, {self.apart:.0%} apart, first byte p99 {first(self.seen, 0.99) * 1000:.1f} ms"

    @property
    def lost(self) -> int:
        """Streams that were not whole."""
        return lost(self.seen)


@dataclass(frozen=True, slots=True)
class Slow:
    """Of a proxy under thousands of slow streams. `cpu`: seconds in all; `memory`: peak bytes."""

    cpu: float
    seen: Sequence[Seen]
    memory: int

    def __str__(self) -> str:
        return f"{lost(self.seen)} of {len(self.seen)} lost"


def lost(seen: Sequence[Seen]) -> int:
    """Streams that were not whole."""
    return sum(not each.whole for each in seen)


def first(seen: Sequence[Seen], share: float) -> float:
    """Seconds to the first chunk, that `share` of the streams had; of those that had any."""
    had = sorted(each.first for each in seen if each.first)
    return had[min(len(had) - 1, int(share * len(had)))] if had else float("inf")


def of_decoding(found: Mapping[str, Decoding | str], direct: Sequence[Seen]) -> list[str]:
    """Rows, in Markdown. A text: why there is no figure."""
    rows = [
        "| | CPU per chunk | against aiohttp | chunks that came apart "
        "| added to first byte p50 | p99 | peak memory | lost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    plain = found.get("aiohttp")
    for name, one in found.items():
        if isinstance(one, str):
            rows.append(f"| {name} | not measured: {one} | | | | | | |")
            continue
        share = f"{one.cpu / plain.cpu:.2f}" if isinstance(plain, Decoding) else ""
        rows.append(
            f"| {name} | {one.cpu * 1e6:.1f} us | {share} | {one.apart:.0%} | {added(one.seen, direct, 0.5)} | "
            f"{added(one.seen, direct, 0.99)} | {one.memory >> 20} MiB | {one.lost} of {len(one.seen)} |"
        )
    return rows


def of_slow(found: Mapping[str, Slow | str]) -> list[str]:
    """Rows, in Markdown."""
    rows = ["| | lost | peak memory | CPU |", "|---|---|---|---|"]
    for name, one in found.items():
        if isinstance(one, str):
            rows.append(f"| {name} | not measured: {one} | | |")
        else:
            rows.append(f"| {name} | {lost(one.seen)} of {len(one.seen)} | {one.memory >> 20} MiB | {one.cpu:.1f} s |")
    return rows


def added(seen: Sequence[Seen], direct: Sequence[Seen], share: float) -> str:
    """To the time to the first byte without a proxy, at the same share of streams."""
    return f"{(first(seen, share) - first(direct, share)) * 1000:.1f} ms"
