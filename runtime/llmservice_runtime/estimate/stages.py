"""Pipelines: how layers are spread over stages, and what the fullest stage holds."""

from __future__ import annotations

from itertools import accumulate, pairwise

from llmservice_runtime.estimate.weights import layer_weights
from llmservice_runtime.formats.facts import ModelFacts


def stages(layers: int, count: int) -> list[int]:
    """Layers of each of `count` stages: as even as they can be, what is over on those before the last."""
    each, over = divmod(layers, count)
    sizes = [each] * count
    for back in range(2, over + 2):
        sizes[-back] += 1
    return sizes


def longest(facts: ModelFacts, count: int) -> int:
    """Layers of the longest stage."""
    return max(stages(max(1, facts.layer_count), count))


def heaviest(facts: ModelFacts, weights: int, count: int) -> int:
    """Bytes of the fullest stage of a model whose loaded weights are `weights` together.

    What belongs to no layer (embeddings, the output matrix) is on the first and the last stage, half each.
    """
    layers = layer_weights(facts)
    if count == 1:
        return weights
    outside = facts.weight_bytes - sum(layers)
    if not facts.layer_weight_bytes:  # the even split holds them too
        outside = min(facts.weight_bytes, 4 * facts.vocab_size * facts.hidden_size)
        each = -(-(facts.weight_bytes - outside) // max(1, len(layers)))
        layers = (each,) * len(layers)
    ends = [0, *accumulate(stages(len(layers), count))]
    held = [sum(layers[start:end]) for start, end in pairwise(ends)]
    held[0] += -(-outside // 2)
    held[-1] += -(-outside // 2)
    return -(-max(held) * weights // max(1, facts.weight_bytes))
