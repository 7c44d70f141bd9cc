"""Real model geometries for the estimate's tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Quantization, Task

Geometry = Callable[..., ModelFacts]


@pytest.fixture(scope="session")
def geometry() -> Geometry:
    """Facts of a published model by name, as its headers give them; keyword arguments replace fields."""

    def make(name: str, **changes: object) -> ModelFacts:
        return dataclasses.replace(KNOWN[name], **changes)  # type: ignore[arg-type]

    return make


def _dense(
    parameters: int, layers: int, kv_heads: int, head: int, hidden: int, heads: int, vocab: int, ctx: int
) -> ModelFacts:
    size = parameters * 2
    return ModelFacts(
        format=ModelFormat.SAFETENSORS,
        architecture="LlamaForCausalLM",
        model_type="llama",
        task=Task.CHAT,
        quantization=None,
        dtype="BF16",
        parameters=parameters,
        context_tokens=ctx,
        layers=(LayerGroup(LayerKind.FULL, layers, kv_heads, head, head),),
        hidden_size=hidden,
        attention_heads=heads,
        vocab_size=vocab,
        weight_bytes=size,
        layer_weight_bytes=(),
        files=("model.safetensors",),
        file_bytes=size,
        has_chat_template=True,
        has_tokenizer=True,
    )


KNOWN = {
    "llama-3.1-8b": _dense(8_030_261_248, 32, 8, 128, 4096, 32, 128256, 131072),
    "qwen2.5-7b": _dense(7_615_616_512, 28, 4, 128, 3584, 28, 152064, 32768),
    "llama-2-13b": _dense(13_015_864_320, 40, 40, 128, 5120, 40, 32000, 4096),
    "llama-3-70b": _dense(70_553_706_496, 80, 8, 128, 8192, 64, 128256, 8192),
}
KNOWN["llama-3.1-8b-q4"] = dataclasses.replace(
    KNOWN["llama-3.1-8b"],
    format=ModelFormat.GGUF,
    architecture="llama",
    quantization=Quantization("gguf", "Q4_K_M", 4.9),
    weight_bytes=4_912_898_304,
    layer_weight_bytes=(130_000_000,) * 32,
    file_bytes=4_920_739_232,
)
