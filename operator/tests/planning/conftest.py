"""Models and machines for the planner's tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Quantization, Task
from llmservice_runtime.machine.gpus import find_gpu
from llmservice_runtime.machine.machine import Machine

MakeFacts = Callable[..., ModelFacts]
MakeMachine = Callable[..., Machine]
MakeSpec = Callable[..., LLMServiceSpec]


@pytest.fixture(scope="session")
def make_facts() -> MakeFacts:
    """An 8 B Llama in bf16, or with `gguf=True` its Q4_K_M GGUF; keyword arguments replace fields."""

    def make(gguf: bool = False, **changes: object) -> ModelFacts:
        facts = GGUF if gguf else BF16
        return dataclasses.replace(facts, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def make_machine() -> MakeMachine:
    """A machine with `gib` of free memory and `count` GPUs of one kind."""

    def make(gib: float = 64, kind: str = "", count: int = 1) -> Machine:
        size = int(gib * (1 << 30))
        gpus = (find_gpu(kind),) * count if kind else ()
        return Machine(8, size, size, frozenset({"avx2"}), gpus=gpus)

    return make


@pytest.fixture(scope="session")
def make_spec() -> MakeSpec:
    """A spec; `count` is accelerator.count, the rest are fields of the spec."""

    def make(count: int | None = None, **fields: object) -> LLMServiceSpec:
        body = {"model": {"uri": "file://model"}, "accelerator": {"count": count}, **fields}
        return LLMServiceSpec.model_validate(body)

    return make


BF16 = ModelFacts(
    format=ModelFormat.SAFETENSORS,
    architecture="LlamaForCausalLM",
    model_type="llama",
    task=Task.CHAT,
    quantization=None,
    dtype="BF16",
    parameters=8_030_261_248,
    context_tokens=131072,
    layers=(LayerGroup(LayerKind.FULL, 32, 8, 128, 128),),
    hidden_size=4096,
    attention_heads=32,
    vocab_size=128256,
    weight_bytes=16_060_522_496,
    layer_weight_bytes=(),
    files=("model.safetensors",),
    file_bytes=16_060_556_376,
    has_chat_template=True,
    has_tokenizer=True,
)
GGUF = dataclasses.replace(
    BF16,
    format=ModelFormat.GGUF,
    architecture="llama",
    quantization=Quantization("gguf", "Q4_K_M", 4.9),
    weight_bytes=4_912_898_304,
    layer_weight_bytes=(130_000_000,) * 32,
    files=("model-Q4_K_M.gguf",),
    file_bytes=4_920_739_232,
)
