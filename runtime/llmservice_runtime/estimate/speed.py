"""How fast a model can write at most: no token is computed before the weights that it takes were read from memory.

A bound, no forecast: it is as if memory were read as fast as it can be and nothing else took time. Where so little
arithmetic does not tell, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmservice_runtime.estimate.budget import Shape
from llmservice_runtime.estimate.fit import USUAL_SEQUENCE, Target
from llmservice_runtime.estimate.kv import Pool, kv_bytes, states_bytes
from llmservice_runtime.estimate.overhead import MIB
from llmservice_runtime.estimate.weights import layer_weights
from llmservice_runtime.formats.facts import Reads
from llmservice_runtime.machine.memory_speed import too_large

GPU_CACHES = 512 * MIB
"""Twice the largest cache that a GPU has: what reads less may read it from there."""
HOST_CACHES = 4
"""The same of CPUs, in what their caches hold."""
NOT_MEASURED = (
    "how fast CPUs read memory there was not measured (it is on one machine, while it is not busy and has memory free)"
)
NOT_TOLD = "the headers don't tell what a token reads of the weights"


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second at most; None = not known, or not bounded by memory. `unknown` = why nothing is, a clause."""

    tokens_per_second: float | None = None
    """Of one answer, as it begins."""
    full_tokens_per_second: float | None = None
    """Of one answer, at the end of a full context."""
    together_tokens_per_second: float | None = None
    """Of all answers that are computed at a time, with usual contexts (2,048 tokens, or less where fewer find room). On
    GPUs alone: CPUs are busy before their memory is."""
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class _Steps:
    """Steps of a model that is placed so."""

    target: Target
    shape: Shape
    reads: Reads

    def seconds(self, answers: int = 1, tokens: int = 0) -> float:
        """One token for each of `answers`, whose contexts have so many tokens together."""
        target, shape = self.target, self.shape
        layers, output = target.memory.widths(target.facts, shape.device)
        inside = (self.reads.layers + self.reads.experts * self._passed(answers)) * layers
        outside, cache, on_gpus = self.reads.output * output, self.cache(answers, tokens), self.on_gpus
        end = outside if on_gpus and not self.offloaded else 0
        by_gpus = (inside * on_gpus + end) / shape.layout.tensor + cache * on_gpus
        by_host = inside * (1 - on_gpus) + outside - end + cache * (1 - on_gpus)
        gpu = target.gpu.bandwidth if target.gpu else 0
        return (by_gpus / gpu if by_gpus else 0.0) + (by_host / target.machine.bandwidth if by_host else 0.0)

    def cache(self, answers: int, tokens: int) -> int:
        """Bytes of what is kept of tokens, per GPU. What is kept of a sequence is not counted: it is little."""
        if not tokens:
            return 0
        element = self.target.memory.element(self.target.facts, self.shape.device)
        pool = Pool(tokens, answers, element, self.shape.layout.tensor, chunk=0, page=1)
        return kv_bytes(self.target.facts.layers, pool) - states_bytes(self.target.facts.layers, pool)

    @property
    def offloaded(self) -> bool:
        """Whether layers are left on the host, and with them what comes behind the last."""
        return self.target.memory.offloads and self.shape.gpu_layers <= self.target.facts.layer_count

    @property
    def on_gpus(self) -> float:
        """Part of the layers."""
        if not self.shape.gpus or not self.offloaded:
            return float(self.shape.gpus > 0)
        weights = layer_weights(self.target.facts)
        return sum(weights[len(weights) - self.shape.gpu_layers :]) / max(1, sum(weights))

    def _passed(self, answers: int) -> float:
        """Part of the experts that so many tokens pass, which choose evenly."""
        experts = self.target.facts.mixture_experts
        return 1 - (1 - min(1.0, self.reads.chosen / experts)) ** answers if experts else 0.0


def speed(target: Target, shape: Shape) -> Speed:
    """Of a model that is placed so. Vectors and scores have none."""
    facts, reads = target.facts, target.facts.reads
    if facts.pools:
        return Speed()
    if reads is None:
        return Speed(unknown=NOT_TOLD)
    steps = _Steps(target, shape, reads)
    if unknown := _unknown(steps):
        return Speed(unknown=unknown)
    chosen = any(group.index_bytes for group in facts.layers)  # an indexer chooses the tokens that are read
    cached = shape.kv_tokens > 0 and facts.kv_known and not chosen
    together = None
    if cached and steps.on_gpus == 1 and not steps.offloaded:
        stages = shape.gpus // shape.layout.tensor  # each reads its weights for all answers, and a part of the cache
        tokens = min(shape.kv_tokens, shape.sequences * min(USUAL_SEQUENCE, shape.context_tokens))
        together = shape.sequences / steps.seconds(shape.sequences, tokens // stages)
    full = 1 / steps.seconds(tokens=shape.context_tokens) if cached else None
    return Speed(_rounded(1 / steps.seconds()), _rounded(full), _rounded(together))


def _rounded(tokens: float | None) -> float | None:
    """Three digits: no more is known."""
    return None if tokens is None else float(f"{tokens:.3g}")


def _unknown(steps: _Steps) -> str:
    """Why nothing can be said."""
    target, reads, on_gpus = steps.target, steps.reads, steps.on_gpus
    if target.memory.unpredicted:
        return target.memory.unpredicted
    if steps.shape.layout.copies > 1:
        return "copies of the model share experts, which is not counted"
    if not reads.layers or not all(target.memory.widths(target.facts, steps.shape.device)):
        return NOT_TOLD
    if target.gpu and on_gpus and not target.gpu.bandwidth:
        return f"how fast {target.gpu.product} reads its memory is not in the table (see docs/planning.md)"
    if (on_gpus < 1 or steps.offloaded) and not target.machine.bandwidth:
        if too_large(target.machine.cache_bytes):
            size = target.machine.cache_bytes // MIB
            return f"CPUs' caches there hold {size} MiB: how fast memory behind them is read is not measured"
        return NOT_MEASURED
    size = reads.layers + reads.output
    if (on_gpus and size < GPU_CACHES) or (on_gpus < 1 and size < HOST_CACHES * target.machine.cache_bytes):
        return f"the {max(1, size // MIB)} MiB that a token reads may be in caches, whose speed is not known"
    return ""
