"""What engines need besides weights and KV cache: activations of one forward pass, what stays free."""

from __future__ import annotations

from llmservice_runtime.formats.facts import ModelFacts

GIB = 1 << 30
MIB = 1 << 20

UTILISATION = 0.90
"""Share of a GPU's memory an engine may take: the rest is for what other processes and fragmentation use."""


def host_budget(memory: int) -> int:
    """What of the free host memory may be planned: a tenth stays free, at least 256 MiB and at most 2 GiB."""
    return max(0, memory - min(2 * GIB, max(256 * MIB, memory // 10)))


def activations(facts: ModelFacts, batch: int) -> int:
    """Live fp32 tensors of one layer for one batch: three of the feed-forward width, four of the hidden size."""
    return 4 * batch * (3 * feed_forward(facts) + 4 * facts.hidden_size)


def feed_forward(facts: ModelFacts) -> int:
    """Width of the feed-forward block, from above: a layer's parameters hold 3 * d * d_ff of a gated block at most;
    a mixture of experts activates a small part of them, taken as at most eight times the hidden size."""
    hidden = max(1, facts.hidden_size)
    inside = facts.parameters - facts.vocab_size * hidden
    if facts.layer_weight_bytes:
        # Embeddings often have more bits than layers: their share of the parameters is smaller than of the bytes.
        share = sum(facts.layer_weight_bytes) / max(1, facts.weight_bytes)
        inside = min(inside, int(facts.parameters * share * 1.15))
    bound = max(0, inside) // (max(1, facts.layer_count) * 3 * hidden)
    return min(max(bound, hidden), 8 * hidden)
