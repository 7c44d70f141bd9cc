"""Memory of the KV cache: what one token, and one sequence, cost in each kind of layer.

MHA and GQA: H_kv * (d_k + d_v) per layer and token. MLA: latents per token, on every tensor-parallel rank; an indexer's
keys beside them are 8-bit whatever the cache is.
Sliding window: at most the window per sequence. Recurrent: a constant per sequence. Tensor
parallelism divides heads by min(TP, H_kv), and states by TP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from llmservice_runtime.formats.facts import LayerGroup, LayerKind

F16 = Fraction(2)


@dataclass(frozen=True, slots=True)
class Pool:
    """A cache shared by `sequences` sequences that hold at most `tokens` tokens together.

    `chunk` is how many tokens one step may add: what a sliding layer keeps beyond its window. With `full_sliding`
    sliding layers keep every token. `long` counts the sequences of whole contexts that fill the pool, where windows are
    allocated as they are needed; 0 = a window is kept for every sequence. `page` is the unit of allocation.
    """

    tokens: int
    sequences: int
    element: Fraction = F16
    tensor_parallel: int = 1
    chunk: int = 512
    full_sliding: bool = False
    long: int = 0
    page: int = 256


def kv_bytes(layers: Iterable[LayerGroup], pool: Pool) -> int:
    """Bytes per device of the whole cache."""
    return sum(group.count * layer_bytes(group, pool) for group in layers)


def states_bytes(layers: Iterable[LayerGroup], pool: Pool) -> int:
    """Bytes per device of what is kept of each sequence, however long it is: part of `kv_bytes`."""
    return sum(group.count * _states(group, pool) for group in layers)


def layer_bytes(group: LayerGroup, pool: Pool) -> int:
    """Bytes per device of one layer of the group."""
    if group.kind is LayerKind.NONE:
        return 0
    state = _states(group, pool)
    if group.kind is LayerKind.RECURRENT:
        return state
    tokens = padded(pool.tokens, pool.page)
    if group.kind is LayerKind.SLIDING and not pool.full_sliding:
        tokens = min(tokens, padded((pool.long or pool.sequences) * group.window + pool.chunk, pool.page))
    tokens = -(-tokens // max(1, group.tokens_per_state))  # a report may say anything
    heads = group.kv_heads
    if group.kind is not LayerKind.MLA:
        heads = -(-group.kv_heads // min(pool.tensor_parallel, max(1, group.kv_heads)))
    elements = tokens * heads * (group.k_dim + group.v_dim)
    kept = -(-elements * pool.element.numerator // pool.element.denominator)  # as fractions this takes most of a plan
    return state + tokens * group.index_bytes + kept


def _states(group: LayerGroup, pool: Pool) -> int:
    """Beside attention may be a state (Falcon-H1) or an encoder's output (Whisper); GPUs share these, not latents."""
    shards = 1 if group.kind is LayerKind.MLA else pool.tensor_parallel
    return 0 if group.kind is LayerKind.NONE else -(-group.state_bytes // shards) * pool.sequences


def bytes_per_token(layers: Iterable[LayerGroup], element: Fraction = F16) -> int:
    """What one more token of a long context costs on one device: sliding and recurrent layers cost nothing any more."""
    full = (g for g in layers if g.kind in (LayerKind.FULL, LayerKind.MLA))
    kept = ((g, g.kv_heads * (g.k_dim + g.v_dim) * element + g.index_bytes) for g in full)
    return int(sum(group.count * each / max(1, group.tokens_per_state) for group, each in kept))


def padded(tokens: int, page: int) -> int:
    """Rounded up to whole pages."""
    return -(-tokens // page) * page
