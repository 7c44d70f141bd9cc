"""What a loaded model has of memory, from what llama.cpp says of its buffers while it makes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmservice_runtime.contract.memory import GPU, HOST, HeldLine, Part

MIB = 1 << 20
_BUFFER = re.compile(r"(\S+) +(model|KV|RS|compute|output) buffer size += +([0-9.]+) MiB")
_GPU = re.compile(r"using device \S+ \((.+?)\) \([^()]*\) - \d+ MiB free")
_PARTS = {"model": Part.WEIGHTS, "KV": Part.CACHE, "RS": Part.CACHE, "compute": Part.ENGINE, "output": Part.ENGINE}
_MAPPED = "_Mapped"
"""Ends the name of a buffer that is a part of the file."""
_OF_HOST = ("CPU", "_Host")
"""How names of buffers in host memory begin, or end."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """One of llama.cpp's buffers, in bytes."""

    part: Part
    name: str
    bytes: int

    @property
    def where(self) -> str:
        """GPU or Host."""
        return HOST if self.name.startswith(_OF_HOST[0]) or self.name.endswith(_OF_HOST[1]) else GPU


def buffer(line: str) -> Buffer | None:
    """The buffer that a line of llama.cpp's log tells of."""
    found = _BUFFER.search(line)
    return Buffer(_PARTS[found[2]], found[1], round(float(found[3]) * MIB)) if found else None


def gpu(line: str) -> str:
    """The name of the GPU that a line of llama.cpp's log says it uses; empty = it says something else."""
    found = _GPU.search(line)
    return found[1] if found else ""


def held(buffers: list[Buffer], weights: int, mapped: int, cached: bool = True) -> Iterator[HeldLine]:
    """Lines of memory. `weights`: bytes of all tensors; `mapped`: bytes of the file's pages that are in memory.

    A mapping spans tensors that were copied elsewhere, so it does not count: what no other buffer has of the weights is
    in it. `cached`: whether there is a cache; buffers that tell of none are then not told of at all.
    """
    if cached and not any(buffer.part is Part.CACHE for buffer in buffers):
        return
    for part in (Part.WEIGHTS, Part.CACHE, Part.ENGINE):
        own = [buffer for buffer in buffers if buffer.part is part and not buffer.name.endswith(_MAPPED)]
        gpu, host = (sum(buffer.bytes for buffer in own if buffer.where == where) for where in (GPU, HOST))
        if gpu:
            yield HeldLine(part, GPU, gpu, gpu)
        if part is Part.WEIGHTS:
            yield HeldLine(part, HOST, max(host, weights - gpu), min(max(host, weights - gpu), host + mapped))
        elif part is Part.CACHE and cached:
            yield HeldLine(part, HOST, host, host)
