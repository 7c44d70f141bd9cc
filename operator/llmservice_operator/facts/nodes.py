"""Kinds of nodes: what a plan may count on. Nodes that do not differ in it are one kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_operator.facts.quantity import parse_quantity

PRODUCT_LABELS = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "gpu.intel.com/product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "karpenter.azure.com/sku-gpu-name",
    "k8s.amazonaws.com/accelerator",
)
"""Where feature discovery writes a GPU's name, then where clouds and Karpenter do."""
MEMORY_LABEL = "nvidia.com/gpu.memory"
"""MiB of one GPU, as its driver reports it."""
SIZE_LABEL = "karpenter.k8s.aws/instance-gpu-memory"
"""MiB of one GPU, as it is sold: that tells two sizes apart, and is more than what may be used."""
SLICE_LABEL = "cloud.google.com/gke-gpu-partition-size"
"""The MIG slice that GKE makes of each: 1g.5gb."""
CAPABILITY_LABELS = ("nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor")
MOST_PIECES = 256
"""Of one extended resource: more are of no use to a replica, and a plan makes a list of them."""
COARSE = 256 << 20
"""Bytes: nodes whose memory differs by less are alike. It is rounded down."""


@dataclass(frozen=True, slots=True, order=True)
class NodeKind:
    """Nodes alike. CPUs and bytes are allocatable; `resources` are (extended resource, count) pairs.

    `product` is the GPU's name as its label spells it and `product_label` that label; empty without such a label.
    """

    cpus: int
    memory_bytes: int
    architecture: str
    resources: tuple[tuple[str, int], ...] = ()
    product: str = ""
    product_label: str = ""
    gpu_memory_bytes: int = 0
    """Of one GPU, where a label says so; 0 = the catalogue is asked."""
    gpu_capability: int = 0
    """SM times ten, where labels say so."""
    gpu_size: int = 0
    """GB of one GPU as it is sold, where only that is said."""
    gpu_slice: str = ""


def node_kinds(nodes: Iterable[Mapping[str, Any]]) -> tuple[NodeKind, ...]:
    """The distinct kinds among Node objects, cordoned and unready ones included: they may come back.

    Raises ValueError, TypeError, KeyError or AttributeError for a node that can't be read.
    """
    return tuple(sorted({_kind(node) for node in nodes}))


def _kind(node: Mapping[str, Any]) -> NodeKind:
    labels = node["metadata"].get("labels", {})
    allocatable = node.get("status", {}).get("allocatable", {})
    label = next((name for name in PRODUCT_LABELS if name in labels), "")
    mib, sold = labels.get(MEMORY_LABEL, ""), labels.get(SIZE_LABEL, "")
    major, minor = (labels.get(name, "") for name in CAPABILITY_LABELS)
    return NodeKind(
        cpus=max(0, int(parse_quantity(allocatable.get("cpu", "0")))),
        memory_bytes=max(0, int(parse_quantity(allocatable.get("memory", "0")))) // COARSE * COARSE,
        architecture=labels.get("kubernetes.io/arch", "amd64"),
        resources=tuple(sorted(_extended(allocatable))),
        product=labels.get(label, ""),
        product_label=label,
        gpu_memory_bytes=int(mib) << 20 if _number(mib) else 0,
        gpu_capability=int(major) * 10 + int(minor) if _number(major) and _number(minor) else 0,
        gpu_size=round(int(sold) / 1024) if label == "karpenter.k8s.aws/instance-gpu-name" and _number(sold) else 0,
        gpu_slice=labels.get(SLICE_LABEL, ""),
    )


def _number(text: str) -> bool:
    return text.isdecimal() and len(text) <= 9


def _extended(allocatable: Mapping[str, str]) -> Iterable[tuple[str, int]]:
    """Extended resources have a domain in their name; Kubernetes' own have none, or one of its own."""
    for name, amount in allocatable.items():
        own = "/" not in name or name.startswith("kubernetes.io/")
        if not own and (count := int(parse_quantity(amount))) > 0:
            yield name, min(count, MOST_PIECES)
