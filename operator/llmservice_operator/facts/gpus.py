"""What a kind of node's accelerators are: by the installation's map, the node's labels, and the catalogue of names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from llmservice_operator.facts.config import OperatorConfig
from llmservice_operator.facts.nodes import NodeKind
from llmservice_operator.facts.vendors import vendor
from llmservice_runtime.machine.gpus import ASSUMED_CAPABILITY, UnknownGpu, find_gpu
from llmservice_runtime.machine.machine import Device, Gpu

MIG = "nvidia.com/mig-"


def gpu_of(kind: NodeKind, resource: str, config: OperatorConfig) -> tuple[Gpu, bool] | None:
    """One accelerator that is counted by `resource`, and whether it has just that memory, or may have more (its name
    stands for several sizes, and this is the smallest); None = it is not known."""
    if not kind.product:
        return None
    exact = True
    mapped, bandwidth = _stated(config.gpu_memory, kind), _stated(config.gpu_bandwidth, kind)
    of_a_whole_one = mapped or kind.gpu_memory_bytes or None
    try:
        found = find_gpu(_name(kind, resource), None if resource.startswith(MIG) else of_a_whole_one)
    except UnknownGpu as error:
        if not error.like:
            return None
        found, exact = min(error.like, key=lambda gpu: (gpu.memory_bytes, gpu.capability)), False
        found = dataclasses.replace(found, bandwidth=0)  # another size may be faster
    if bandwidth and not resource.startswith(MIG):
        found = dataclasses.replace(found, bandwidth=bandwidth)
    device = vendor(resource)
    capability = (kind.gpu_capability or found.capability or ASSUMED_CAPABILITY) if device is Device.NVIDIA else 0
    return dataclasses.replace(found, vendor=device, capability=capability), exact


def unseen_gpu(resource: str, memory_bytes: int) -> Gpu:
    """One of which nothing is known but its resource."""
    device = vendor(resource)
    return Gpu("GPU", device, memory_bytes, ASSUMED_CAPABILITY if device is Device.NVIDIA else 0)


def _name(kind: NodeKind, resource: str) -> str:
    """As the catalogue is asked: what other labels say of size and slices belongs to it."""
    name = kind.product
    if kind.gpu_size:
        name = f"{name}-{kind.gpu_size}GB"
    if resource.startswith(MIG):
        return f"{name}-{resource.removeprefix('nvidia.com/')}"
    return f"{name}-mig-{kind.gpu_slice}" if kind.gpu_slice else name


def _stated(by_product: Iterable[tuple[str, int]], kind: NodeKind) -> int | None:
    return next((number for product, number in by_product if _words(product) == _words(kind.product)), None)


def _words(product: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", product.lower())
