"""What llama.cpp takes: tensors mapped as they are stored, cells in pages of 256, the buffers of its graph.

Buffers as its allocator reports them for Llama graphs of several shapes (measured, llama-cpp-python 0.3.36; see
docs/planning.md).
"""

from __future__ import annotations

from fractions import Fraction

from llmservice_runtime.batching.scheduler import PROMPT_ROWS
from llmservice_runtime.contract.pictures import TOGETHER, UNPACKED, shown_tokens
from llmservice_runtime.engines.llamacpp.options import LlamaOptions
from llmservice_runtime.engines.llamacpp.rules import keeps_nothing
from llmservice_runtime.estimate.adapters import adapter_bytes
from llmservice_runtime.estimate.budget import (
    GPU,
    HOST,
    RESERVE,
    EngineMemory,
    MemoryLine,
    Shape,
    adapter_line,
    cache_lines,
)
from llmservice_runtime.estimate.kv import F16, Pool, kv_bytes, states_bytes
from llmservice_runtime.estimate.overhead import MIB, activations, feed_forward
from llmservice_runtime.estimate.weights import layer_weights, offloaded_bytes
from llmservice_runtime.formats.facts import LayerKind, ModelFacts, Vision
from llmservice_runtime.machine.machine import Device

BASE = 112 * MIB
"""Supervisor and engine processes beside weights, cache and buffers (measured, docs/benchmarks-memory.md: 26 and 52 MiB
of their own, 35 MiB of libraries)."""
TOKEN = 512
"""Bytes of each token of the vocabulary: its text in the tables of llama.cpp, the tokenizer and the grammars."""
SPARE = 80 * MIB
"""Kept free: grammars of large vocabularies and many large requests at a time."""
UNGATED = frozenset({"bert"})
"""Encoders whose feed-forward block has no gate."""
ADAPTER_WIDTH = 4
"""Bytes of an element of an adapter: bfloat16 is widened."""
PAGE = 256
"""Tokens that llama.cpp rounds a cache up to."""
KEPT_PICTURES = 64 * MIB
"""Vectors of the pictures that were shown last."""
PATCH_WIDTHS = 4
"""Numbers of a patch that are there together, in widths of the encoder, beside what its feed-forward block has."""
WARMED = 46 * 46
"""Tokens of the picture that llama.cpp warms up with, where encoders see pictures of any size."""
MERGED = 2
"""Patches in a row that become one token, where the header does not say."""
FIXED_SIZE = frozenset(
    {
        "mlp", "mlp_norm", "ldp", "ldpv2", "resampler", "adapter", "gemma3", "gemma3nv", "idefics3", "internvl",
        "llama4", "janus_pro", "cogvlm", "nemotron_v2_vl", "granite4_vision", "minicpmv4_6",
    }
)  # fmt: skip
"""Projectors whose encoder sees pictures, or tiles of them, of one size (clip.cpp); others see each in its own."""
GPU_BASE = 600 * MIB
"""CUDA context and cuBLAS workspace."""


class LlamaMemory(EngineMemory):
    """llama.cpp with the arguments that change its memory."""

    max_sequences = 16
    page = PAGE
    offloads = True

    def __init__(self, options: LlamaOptions | None = None) -> None:
        self._options = options or LlamaOptions()
        self.lifts_context = self._options.stretched

    def shares(self, facts: ModelFacts) -> bool:
        """Recurrent and sliding layers need separate streams: their cache can't be cut and shared."""
        separate = any(group.kind in (LayerKind.RECURRENT, LayerKind.SLIDING) for group in facts.layers)
        return not separate and not self._options.split

    def element(self, facts: ModelFacts, device: Device) -> Fraction:
        return self._options.element

    def lines(self, facts: ModelFacts, shape: Shape) -> tuple[MemoryLine, ...]:
        """Layers on GPUs move with their part of the KV cache."""
        if facts.pools:
            return self._pooled_lines(facts, shape)
        kv, states = kv_bytes(facts.layers, self._pool(shape)), states_bytes(facts.layers, self._pool(shape))
        buffers = compute_buffer(facts, shape, self._options)
        adapters = adapter_bytes(facts, self.room, ADAPTER_WIDTH)
        shown = shown_bytes(facts, shape, self._options)
        vision = facts.vision if self._options.image_tokens else None
        spare = SPARE + (UNPACKED if vision else 0)
        if shape.device is Device.CPU:
            return (
                MemoryLine("weights", facts.weight_bytes),
                *picture_lines(vision, self._options, HOST, shown),
                *adapter_line(adapters),
                *cache_lines(shape, kv, states),
                MemoryLine("engine and its buffers", processes(facts) + buffers),
                MemoryLine(RESERVE, spare),
            )
        layers = max(1, facts.layer_count)
        moved = min(shape.gpu_layers, layers)
        on_gpu = offloaded_bytes(facts, shape.gpu_layers)
        kv_gpu, states_gpu = -(-kv * moved // layers), -(-states * moved // layers)
        uneven = max(layer_weights(facts)) + -(-kv // layers) if shape.gpus > 1 else 0
        return (
            MemoryLine(f"weights of {moved} of {layers} layers", -(-on_gpu // shape.gpus) + uneven, GPU),
            *picture_lines(vision, self._options, GPU, shown),
            *adapter_line(adapters, GPU),
            *cache_lines(shape, -(-kv_gpu // shape.gpus), -(-states_gpu // shape.gpus), GPU),
            MemoryLine("engine and its buffers", GPU_BASE + buffers, GPU),
            MemoryLine("weights", facts.weight_bytes - on_gpu, HOST),
            *cache_lines(shape, kv - kv_gpu, states - states_gpu, HOST),
            MemoryLine("engine and its buffers", processes(facts) + buffers, HOST),
            MemoryLine(RESERVE, spare, HOST),
        )

    def _pooled_lines(self, facts: ModelFacts, shape: Shape) -> tuple[MemoryLine, ...]:
        """Encoders keep no cache; of others it holds the texts of one step."""
        tokens = step_tokens(shape.context_tokens, self._options.ubatch)
        pool = Pool(tokens=tokens, sequences=1, element=F16, chunk=tokens, page=self.page)
        kv = 0 if keeps_nothing(facts) else kv_bytes(facts.layers, pool)
        cache = (MemoryLine(f"KV cache of {tokens:,} tokens", kv),) if kv else ()
        buffers = pooled_buffer(facts, tokens, self._options)
        if shape.device is Device.CPU:
            engine = MemoryLine("engine and its buffers", processes(facts) + buffers)
            return (MemoryLine("weights", facts.weight_bytes), *cache, engine, MemoryLine(RESERVE, SPARE))
        on_gpu = offloaded_bytes(facts, shape.gpu_layers)
        return (
            MemoryLine("weights", -(-on_gpu // max(1, shape.gpus)), GPU),
            *(MemoryLine(line.name, line.bytes, GPU) for line in cache),
            MemoryLine("engine and its buffers", GPU_BASE + buffers, GPU),
            MemoryLine("weights", facts.weight_bytes - on_gpu, HOST),
            MemoryLine("engine and its buffers", processes(facts) + buffers, HOST),
            MemoryLine(RESERVE, SPARE, HOST),
        )

    def _pool(self, shape: Shape) -> Pool:
        """Of sliding layers the window and one graph are kept, per stream."""
        return Pool(
            tokens=shape.kv_tokens,
            sequences=slots(shape),
            element=self._options.element,
            chunk=self._options.ubatch * (shape.sequences if streams(shape) else 1),
            page=self.page,
        )


def picture_lines(vision: Vision | None, options: LlamaOptions, where: str, shown: int) -> tuple[MemoryLine, ...]:
    """What sees pictures: on the first GPU, and so counted for each. On the host pixels of those that are
    looked at, and vectors: of those that were shown last, and of requests, `shown` bytes."""
    if vision is None:
        return ()
    weights = MemoryLine("weights of what sees pictures", vision.weight_bytes, where)
    pixels = 4 * TOGETHER * patches(vision, options) * 3 * vision.patch_size**2
    buffers, given = picture_buffer(vision, options), pixels + KEPT_PICTURES + shown
    if where == HOST:
        return weights, MemoryLine("pictures", buffers + given, HOST)
    return weights, MemoryLine("pictures", buffers, where), MemoryLine("pictures", given, HOST)


def shown_bytes(facts: ModelFacts, shape: Shape, options: LlamaOptions) -> int:
    """Vectors of the pictures in requests that run or wait: a number of 32 bits for each of a token's."""
    return 4 * facts.hidden_size * shown_tokens(shape.context_tokens, options.image_tokens)


def picture_buffer(vision: Vision, options: LlamaOptions) -> int:
    """Of one picture's graph: a layer's activations of all patches, and the scores of all heads without flash
    attention. A test holds it against llama.cpp's own."""
    count = patches(vision, options)
    pixels = 3 * vision.patch_size**2
    scores = vision.heads * count if options.scores else 0
    return 4 * count * (pixels + PATCH_WIDTHS * vision.hidden_size + vision.feed_forward + scores)


def patches(vision: Vision, options: LlamaOptions) -> int:
    """Of one picture at most."""
    side = vision.image_size // max(1, vision.patch_size)
    if vision.kind in FIXED_SIZE:
        return side * side
    tokens = max(WARMED, options.image_tokens * 21 // 20)  # a picture has whole rows of them
    return max(side * side, tokens * (vision.merge or MERGED) ** 2)


def step_tokens(context_tokens: int, ubatch: int) -> int:
    """Tokens of one step where texts are pooled: a whole text is computed in one go."""
    return max(-(-context_tokens // PAGE) * PAGE, ubatch)


def processes(facts: ModelFacts) -> int:
    """Bytes that supervisor and engine take beside weights, cache and buffers."""
    return BASE + TOKEN * facts.vocab_size


def streams(shape: Shape) -> bool:
    """Whether every sequence gets a cache of its own: when the pool holds a whole context for each."""
    return shape.kv_tokens >= shape.whole


def slots(shape: Shape) -> int:
    """Sequences that are kept, idle prefixes included."""
    return shape.sequences if streams(shape) else 2 * shape.sequences


def pooled_buffer(facts: ModelFacts, tokens: int, options: LlamaOptions) -> int:
    """Buffers of a step that pools: the mask of all tokens with all, a layer's activations (a gate is as wide as what
    it gates), every token's output. A test holds it against llama.cpp's own."""
    scores = 4 * facts.attention_heads if options.scores else 0
    wide = feed_forward(facts) * (1 if facts.architecture in UNGATED else 2)
    return (2 + scores) * tokens * tokens + 4 * tokens * (wide + 4 * facts.hidden_size)


def compute_buffer(facts: ModelFacts, shape: Shape, options: LlamaOptions) -> int:
    """Compute and output buffers; without flash attention the scores of all heads too.

    The larger of two moments of the graph: the logits of all kept rows over the vocabulary beside hidden states, and
    the feed-forward block beside the fp16 attention mask (2 bytes per cell and token). One more row of logits stays for
    every slot.
    """
    cells = shape.context_tokens if streams(shape) else shape.kv_tokens
    hidden = 3 * facts.hidden_size * options.ubatch
    logits = 4 * (facts.vocab_size * (shape.sequences + PROMPT_ROWS) + hidden)
    scores = 4 * facts.attention_heads if options.scores else 0
    layer = (2 + scores) * cells * options.ubatch + activations(facts, options.ubatch)
    return max(logits, layer) + 4 * facts.vocab_size * slots(shape)
