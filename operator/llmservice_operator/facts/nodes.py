"""Kinds of nodes: what a plan may count on. Nodes that do not differ in it are one kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llmservice_operator.facts.quantity import parse_quantity

PRODUCT_LABELS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "gpu.intel.com/product")
"""Where feature discovery writes a GPU's name."""
MEMORY_LABEL = "nvidia.com/gpu.memory"
"""MiB of one GPU."""
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


def node_kinds(nodes: Iterable[Mapping[str, Any]]) -> tuple[NodeKind, ...]:
    """The distinct kinds among Node objects, cordoned and unready ones included: they may come back.

    Raises ValueError, TypeError, KeyError or AttributeError for a node that can't be read.
    """
    return tuple(sorted({_kind(node) for node in nodes}))


def _kind(node: Mapping[str, Any]) -> NodeKind:
    labels = node["metadata"].get("labels", {})
    allocatable = node.get("status", {}).get("allocatable", {})
    label = next((name for name in PRODUCT_LABELS if name in labels), "")
    mib = labels.get(MEMORY_LABEL, "")
    return NodeKind(
        cpus=max(0, int(parse_quantity(allocatable.get("cpu", "0")))),
        memory_bytes=max(0, int(parse_quantity(allocatable.get("memory", "0")))) // COARSE * COARSE,
        architecture=labels.get("kubernetes.io/arch", "amd64"),
        resources=tuple(sorted(_extended(allocatable))),
        product=labels.get(label, ""),
        product_label=label,
        gpu_memory_bytes=int(mib) << 20 if mib.isdigit() else 0,
    )


def _extended(allocatable: Mapping[str, str]) -> Iterable[tuple[str, int]]:
    """Extended resources have a domain in their name; Kubernetes' own have none, or one of its own."""
    for name, amount in allocatable.items():
        own = "/" not in name or name.startswith("kubernetes.io/")
        if not own and (count := int(parse_quantity(amount))) > 0:
            yield name, min(count, MOST_PIECES)
