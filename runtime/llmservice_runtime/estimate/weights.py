"""Memory of the weights, from exact tensor bytes."""

from __future__ import annotations

from llmservice_runtime.formats.facts import ModelFacts


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
