"""Whether the GPUs that an engine found are those that were planned with."""

from __future__ import annotations

from collections.abc import Iterable

from llmservice_runtime.machine.gpus import UnknownGpu, find_gpu


def others(planned: str, found: Iterable[str]) -> list[str]:
    """Of the names that a driver gives, those of other products; none where a name says too little to tell."""
    return [name for name in dict.fromkeys(found) if planned and _differ(planned, name)]


def _differ(planned: str, name: str) -> bool:
    try:
        return find_gpu(planned).product != find_gpu(name).product
    except UnknownGpu:
        return False


def visible() -> list[str]:
    """Names of those that PyTorch sees in this process; PyTorch is imported already."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.cuda.get_device_name(gpu) for gpu in range(count)]
