"""Memory of the weights, from exact tensor bytes."""

from __future__ import annotations

from llmservice_runtime.formats.facts import ModelFacts, WidthKind

MOST_OF_WEIGHTS = 0.98
"""Experts are at most that share of a model."""


def offloaded_bytes(facts: ModelFacts, layers_on_gpu: int) -> int:
    """Bytes of the weights on GPUs with `layers_on_gpu` of the layers: the last ones first, beyond all layers
    the output matrix and what belongs to no layer."""
    layers = layer_weights(facts)
    if layers_on_gpu > len(layers):
        return facts.weight_bytes
    return sum(layers[len(layers) - layers_on_gpu :])


def layer_weights(facts: ModelFacts) -> tuple[int, ...]:
    """Bytes per layer; an even split where tensor names do not tell."""
    if facts.layer_weight_bytes:
        return facts.layer_weight_bytes
    count = max(1, facts.layer_count)
    return (-(-facts.weight_bytes // count),) * count


def linear_share(facts: ModelFacts) -> float:
    """Of the weights that are in layers: what is made smaller while it is loaded, unlike embeddings and output. Where
    tensor names do not tell, those have two matrices over the vocabulary."""
    if facts.layer_weight_bytes:
        return min(1.0, sum(facts.layer_weight_bytes) / max(1, facts.weight_bytes))
    return max(0.0, 1 - 2 * facts.vocab_size * facts.hidden_size / max(1, facts.parameters))


def expert_share(facts: ModelFacts) -> float:
    """Of the weights that are experts', which copies of a model share: three matrices each in every layer."""
    width = max((width.size for width in facts.widths if width.kind is WidthKind.EXPERT), default=0)
    experts = 3 * facts.mixture_experts * width * facts.hidden_size * facts.layer_count
    return min(MOST_OF_WEIGHTS, experts / max(1, facts.parameters))
