"""Applies KvCache's operations to llama.cpp's memory, and finds out what that memory can do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import llama_cpp

from llmservice_runtime.batching.kvcache import Copy, Op


class LlamaMemory:
    """The memory of one context. `split`: every sequence has a stream of its own, so a copy is whole, then cut."""

    def __init__(self, context: Any, *, split: bool) -> None:
        self._memory = llama_cpp.llama_get_memory(context)
        self._split = split

    def apply(self, ops: Iterable[Op]) -> None:
        """Carry out operations in their order. RuntimeError when llama.cpp refuses one."""
        for op in ops:
            if isinstance(op, Copy):
                end = -1 if self._split else op.length - op.saved
                llama_cpp.llama_memory_seq_cp(self._memory, op.source, op.target, -1, end)
                if self._split:
                    self._remove(op.target, op.length - op.saved)
            else:
                self._remove(op.slot, op.length - op.saved)

    def clear(self) -> None:
        """Forget everything."""
        llama_cpp.llama_memory_clear(self._memory, False)

    def _remove(self, slot: int, start: int) -> None:
        if not llama_cpp.llama_memory_seq_rm(self._memory, slot, start or -1, -1):
            raise RuntimeError(f"llama.cpp can't cut sequence {slot} at {start}")
