"""Facts and machines for the selector's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Quantization, Task
from llmservice_runtime.machine.machine import ALL_BUILDS, Device, EngineBuild, Gpu, Machine

MakeFacts = Callable[..., ModelFacts]
MakeMachine = Callable[..., Machine]


@pytest.fixture
def make_facts() -> MakeFacts:
    """A 7 B Llama; `method` and the rest of a Quantization, `form` and `dtype` make the variants."""

    def make(
        method: str | None = None,
        form: ModelFormat = ModelFormat.SAFETENSORS,
        dtype: str = "BF16",
        model_type: str = "llama",
        remote_code: bool = False,
        architecture: str = "",
        **quantization: object,
    ) -> ModelFacts:
        words = {"name": (method or "").upper(), "bits": 4.0, **quantization}
        return ModelFacts(
            format=form,
            architecture=architecture or ("llama" if form is ModelFormat.GGUF else "LlamaForCausalLM"),
            model_type=model_type,
            task=Task.CHAT,
            quantization=Quantization(method=method, **words) if method else None,  # type: ignore[arg-type]
            dtype=dtype,
            parameters=7_000_000_000,
            context_tokens=8192,
            layers=(LayerGroup(LayerKind.FULL, 32, kv_heads=8, k_dim=128, v_dim=128),),
            hidden_size=4096,
            attention_heads=32,
            vocab_size=32000,
            weight_bytes=14_000_000_000,
            layer_weight_bytes=(),
            files=("model.safetensors",),
            file_bytes=14_000_000_000,
            has_chat_template=True,
            has_tokenizer=True,
            remote_code=remote_code,
        )

    return make


@pytest.fixture
def make_machine() -> MakeMachine:
    """A machine with 64 GiB; `capability` gives it one NVIDIA GPU, `vendor` another one, `flags` its CPU."""

    def make(
        capability: int = 0,
        vendor: Device | None = None,
        flags: str = "avx2",
        builds: tuple[EngineBuild, ...] = ALL_BUILDS,
    ) -> Machine:
        kind = vendor or Device.NVIDIA
        gpus = (Gpu("TheGPU", kind, 80 << 30, capability),) if capability or vendor else ()
        return Machine(8, 64 << 30, 60 << 30, frozenset(flags.split()), gpus=gpus, builds=builds)

    return make
