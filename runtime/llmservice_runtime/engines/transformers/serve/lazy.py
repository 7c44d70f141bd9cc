"""Zeroed memory that takes none before it is written, and gives it back: what a KV cache is made of on a CPU."""

from __future__ import annotations

import mmap
from typing import Any

import torch

NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
"""Linux counts no memory for it before it is used; Python names it from 3.13 on."""


class LazyTensor:
    """A tensor of `shape` whose first dimension can be emptied one by one. On a GPU it is taken whole."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self._mapping: mmap.mmap | None = None
        if device.type == "cpu":
            numbers = torch.Size(shape).numel()
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
            self._mapping = mmap.mmap(-1, max(numbers * dtype.itemsize, 1), flags=flags)
            if hasattr(mmap, "MADV_NOHUGEPAGE"):
                # A page of 2 MiB holds what many answers need.
                self._mapping.madvise(mmap.MADV_NOHUGEPAGE)
            buffer: Any = self._mapping
            self.tensor = torch.frombuffer(buffer, dtype=dtype).reshape(shape)
        else:
            self.tensor = torch.zeros(shape, dtype=dtype, device=device)

    def empty(self, index: int) -> None:
        """Zero one entry of the first dimension, and give its memory back."""
        if self._mapping is None:
            self.tensor[index].zero_()
            return
        size = self.tensor.stride(0) * self.tensor.itemsize
        begin, end = index * size, (index + 1) * size
        first, last = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last:
            self._mapping.madvise(mmap.MADV_DONTNEED, first, last - first)
        whole = self.tensor.view(-1).view(torch.uint8)
        for edge in ((begin, min(first, end)), (max(last, begin), end)):
            whole[edge[0] : edge[1]].zero_()
