"""What vLLM's workers tell of their memory: an extension of theirs, by its name (`--worker-extension-cls`).

On a CPU oneDNN keeps packed weights where no tensor shows them, so what a worker grew by while it loaded them counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
from vllm.v1.worker.gpu_worker import Worker

from llmservice_runtime.contract.memory import GPU, HOST, HeldLine, Part
from llmservice_runtime.engines.base.tensors import allocator_line, cache_lines

STATUS = Path("/proc/self/status")
UNFIT = "The model's weights are not what its config.json describes"
"""Begins what is said of them; `failures` knows it."""
_LOADERS = ("load_weights", "_load_module", "_load_param")
"""Functions of vLLM's that give tensors to layers, one inside of the other."""
_load_model = Worker.load_model


def _measured(self: Any, *args: Any, **kwargs: Any) -> None:
    before = own_memory()
    try:
        _load_model(self, *args, **kwargs)
    except Exception as error:
        if tensor := unfit(error):
            raise ValueError(f"{UNFIT}: {tensor} ({type(error).__name__}: {error})") from error
        raise
    self.llmservice_growth = max(0, own_memory() - before)


def unfit(error: BaseException) -> str:
    """The tensor that a model did not take, where that is why it was not loaded: one of another shape, or one too many.
    What vLLM says of it names neither, and an assertion of its says nothing."""
    if not isinstance(error, AssertionError | IndexError | KeyError | RuntimeError | ValueError):
        return ""
    frames = [frame.f_locals for frame, _ in walk_tb(error.__traceback__) if frame.f_code.co_name in _LOADERS]
    names = (frame.get(name) for frame in reversed(frames) for name in ("weight_qualname", "name", "prefix"))
    memory = isinstance(error, torch.OutOfMemoryError) or "memory" in str(error)
    return "" if memory else next((name for name in names if isinstance(name, str) and name), "")


Worker.load_model = _measured


class Telling:
    """Methods that all workers have."""

    device: Any
    model_runner: Any

    def llmservice_memory(self) -> list[dict[str, Any]]:
        """Lines of `HeldLine`."""
        if self.device.type == "cpu":
            size, where = int(getattr(self, "llmservice_growth", 0)), HOST
        else:
            size, where = int(self.model_runner.model_memory_usage), GPU
        lines = [HeldLine(Part.WEIGHTS, where, size, size), *cache_lines(_flat(self.model_runner.kv_caches))]
        reserved = torch.cuda.memory_reserved() if where == GPU else 0
        return [asdict(line) for line in (*lines, *allocator_line(lines, reserved))]

    def llmservice_gpu(self) -> str:
        """The name of its GPU; empty = it has none."""
        return "" if self.device.type == "cpu" else str(torch.cuda.get_device_name(self.device))


def own_memory(status: Path = STATUS) -> int:
    """Bytes that this process has of no file."""
    sizes = (line.split() for line in status.read_text().splitlines() if line.startswith("RssAnon:"))
    return sum(int(size[1]) * 1024 for size in sizes)


def _flat(caches: Any) -> Iterator[Any]:
    for cache in caches:
        if isinstance(cache, list | tuple):
            yield from _flat(cache)
        else:
            yield cache
