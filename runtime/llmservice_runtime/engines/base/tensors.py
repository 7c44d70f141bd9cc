"""What tensors of PyTorch have of memory, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.memory import GPU, HOST, HeldLine, Part
from llmservice_runtime.engines.base.resident import mapped, touched


def cache_lines(tensors: Iterable[Any], most: int | None = None) -> Iterator[HeldLine]:
    """Lines of a cache; on a CPU it is taken when it is written, at most `most` bytes where that is said."""
    for where, places in _by_place(tensors):
        size = sum(places.values())
        if where == HOST:
            size = size if most is None else min(size, most)
            yield HeldLine(Part.CACHE, where, size, min(size, sum(touched(*place) for place in places.items())))
        else:
            yield HeldLine(Part.CACHE, where, size, size)


def weight_lines(tensors: Iterable[Any], folder: Path) -> Iterator[HeldLine]:
    """Lines of weights that were loaded from a folder, whose files may be mapped and not be read yet."""
    for where, places in _by_place(tensors):
        total, (size, there) = sum(places.values()), mapped(folder) if where == HOST else (0, 0)
        yield HeldLine(Part.WEIGHTS, where, total, max(0, total - (size - there)))


def allocator_line(lines: Sequence[HeldLine], reserved: int) -> Iterator[HeldLine]:
    """What PyTorch has taken of GPUs beside those lines; the driver's own memory is not known to it."""
    rest = reserved - sum(line.bytes for line in lines if line.where == GPU)
    if rest > 0:
        yield HeldLine(Part.ENGINE, GPU, rest, rest)


def _by_place(tensors: Iterable[Any]) -> Iterator[tuple[str, dict[int, int]]]:
    """Place, and by address the bytes there; tensors that share memory count once."""
    found: dict[str, dict[int, int]] = {GPU: {}, HOST: {}}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage.data_ptr():
            found[HOST if tensor.device.type == "cpu" else GPU][storage.data_ptr()] = storage.nbytes()
    return ((where, places) for where, places in found.items() if places)
