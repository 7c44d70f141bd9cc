"""What carries out the bookkeeping of `KvCache` on an engine's own memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from llmservice_runtime.batching.kvcache import Op


class Memory(Protocol):
    """The KV memory of one loaded model."""

    def apply(self, ops: Iterable[Op]) -> None:
        """Carry out operations in their order. RuntimeError when the engine refuses one."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...
