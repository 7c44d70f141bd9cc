"""How fast memory lets a model write: bandwidth over what a token reads, and nothing where that does not tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.estimate.fit import Placement, Target, place
from llmservice_runtime.estimate.speed import NOT_MEASURED, Speed, speed
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, Reads, Task
from llmservice_runtime.machine.gpus import find_gpu
from llmservice_runtime.machine.machine import Device, Machine

GIB = 1 << 30
Geometry = Callable[..., ModelFacts]
OUTPUT = 128256 * 4096 * 2
READS = Reads(8_030_261_248 * 2 - 2 * OUTPUT, OUTPUT)
"""Of Llama 3.1 8 B: embeddings and output matrix apart."""
Q4 = Reads(32 * 130_000_000, 430_000_000)


def predicted(
    facts: ModelFacts,
    engine: EngineType = EngineType.VLLM,
    kind: str = "H100-80GB",
    count: int = 1,
    args: tuple[str, ...] = (),
    **machine: Any,
) -> Speed:
    gpu = find_gpu(kind) if kind else None
    here = Machine(16, 512 * GIB, 500 * GIB, gpus=(gpu,) * count if gpu else (), **machine)
    memory = definition(engine).memory(args)
    target = Target(facts, memory, gpu.vendor if gpu else Device.CPU, here, gpu, count if gpu else None, 8192)
    placed = place(target)
    assert isinstance(placed, Placement)
    return speed(target, placed.shape)


def about(found: float | None, wanted: float) -> bool:
    return found is not None and abs(found / wanted - 1) < 0.01


@pytest.fixture
def llama(geometry: Geometry) -> ModelFacts:
    return geometry("llama-3.1-8b", reads=READS)


def test_one_answer_reads_everything_but_the_embeddings_for_each_token(llama: ModelFacts) -> None:
    found = predicted(llama)
    size = 8_030_261_248 * 2 - OUTPUT
    assert about(found.tokens_per_second, 3.35e12 / size)
    cache = 8192 * 32 * 8 * 256 * 2
    assert about(found.full_tokens_per_second, 3.35e12 / (size + cache))
    assert found.together_tokens_per_second and found.together_tokens_per_second > 50 * (found.tokens_per_second or 0)


def test_gpus_that_share_layers_divide_it_and_a_pipeline_does_not(llama: ModelFacts) -> None:
    alone, two = predicted(llama), predicted(llama, count=2)
    assert about(two.tokens_per_second, 2 * (alone.tokens_per_second or 0))
    stages = predicted(llama, count=2, args=("--pipeline-parallel-size=2",))
    assert about(stages.tokens_per_second, alone.tokens_per_second or 0)
    assert (stages.together_tokens_per_second or 0) > (alone.together_tokens_per_second or 0)
    each = predicted(llama, EngineType.TRANSFORMERS, count=2)
    assert about(each.tokens_per_second, alone.tokens_per_second or 0), "layers each: one after the other"


def test_a_token_reads_the_experts_that_it_passes_and_many_tokens_more(llama: ModelFacts) -> None:
    mixed = dataclasses.replace(llama, mixture_experts=8, reads=Reads(2 * 10**9, 10**9, 12 * 10**9, 2))
    found = predicted(mixed)
    assert about(found.tokens_per_second, 3.35e12 / 6e9)
    dense = predicted(dataclasses.replace(llama, reads=Reads(5 * 10**9, 10**9)))
    assert (found.together_tokens_per_second or 0) < (dense.together_tokens_per_second or 0)


def test_layers_on_the_host_are_read_as_fast_as_its_memory(geometry: Geometry) -> None:
    facts = geometry("llama-3.1-8b-q4", reads=Q4)
    whole = predicted(facts, EngineType.LLAMA_CPP, "RTX-4060")
    part = predicted(facts, EngineType.LLAMA_CPP, "GTX-1650", bandwidth=50 * 10**9, cache_bytes=32 << 20)
    host = predicted(facts, EngineType.LLAMA_CPP, "", bandwidth=50 * 10**9, cache_bytes=32 << 20)
    assert about(host.tokens_per_second, 50e9 / (Q4.layers + Q4.output))
    assert (host.tokens_per_second or 0) < (part.tokens_per_second or 0) < (whole.tokens_per_second or 0)
    assert (
        whole.together_tokens_per_second and host.together_tokens_per_second is part.together_tokens_per_second is None
    )
    unknown = predicted(facts, EngineType.LLAMA_CPP, "GTX-1650")
    assert unknown == Speed(unknown=NOT_MEASURED)


def test_what_is_made_smaller_or_unpacked_is_read_so(llama: ModelFacts) -> None:
    plain = predicted(llama, EngineType.TRANSFORMERS, "", bandwidth=10**11)
    memory = definition(EngineType.TRANSFORMERS).memory(()).converted("BitsAndBytesNF4")
    layers, output = memory.widths(llama, Device.CPU)
    assert 0.25 < layers < 0.3 and about(output, 1)
    wide = predicted(llama, EngineType.TRANSFORMERS, "", args=("--dtype=float32",), bandwidth=10**11)
    assert about(wide.tokens_per_second, (plain.tokens_per_second or 0) / 2)
    wide = predicted(
        dataclasses.replace(
            llama, dtype="F32", weight_bytes=4 * llama.parameters, reads=Reads(2 * READS.layers, 2 * READS.output)
        )
    )
    assert about(wide.tokens_per_second, predicted(llama).tokens_per_second or 0), "vLLM makes 16 bits of 32"


@pytest.mark.parametrize(
    ("changes", "args", "kind", "word"),
    [
        ({"reads": None}, (), "H100-80GB", "headers"),
        ({}, ("--cpu-offload-gb=4",), "H100-80GB", "left on the host"),
        ({}, ('--speculative-config={"method": "ngram", "num_speculative_tokens": 3}',), "H100-80GB", "guessed"),
        ({}, (), "H100-96GB", "H100-96GB"),
        ({"reads": Reads(10**8, 10**7)}, (), "H100-80GB", "caches"),
    ],
)
def test_what_does_not_tell_is_absent_with_the_reason(
    llama: ModelFacts, changes: dict[str, Any], args: tuple[str, ...], kind: str, word: str
) -> None:
    found = predicted(dataclasses.replace(llama, **changes), kind=kind, args=args)
    assert found.tokens_per_second is found.full_tokens_per_second is found.together_tokens_per_second is None
    assert word in found.unknown


def test_small_models_stay_in_the_caches_of_a_processor(geometry: Geometry) -> None:
    small = geometry("llama-3.1-8b-q4", reads=Reads(60 << 20, 8 << 20))
    here: dict[str, Any] = {"engine": EngineType.LLAMA_CPP, "kind": "", "bandwidth": 50 * 10**9}
    assert "caches" in predicted(small, **here, cache_bytes=32 << 20).unknown
    assert predicted(small, **here, cache_bytes=16 << 20).tokens_per_second


def test_caches_that_hide_the_memory_behind_them_are_the_reason(llama: ModelFacts) -> None:
    found = predicted(llama, EngineType.LLAMA_CPP, kind="", bandwidth=0, cache_bytes=384 << 20)
    assert "caches there hold 384 MiB" in found.unknown, "no calm moment changes that"
    assert predicted(llama, EngineType.LLAMA_CPP, kind="", bandwidth=0).unknown == NOT_MEASURED


def test_an_indexer_reads_what_it_chooses(llama: ModelFacts) -> None:
    sparse = (LayerGroup(LayerKind.MLA, 32, 1, 576, 0, index_bytes=132),)
    found = predicted(dataclasses.replace(llama, layers=sparse))
    assert found.tokens_per_second and found.full_tokens_per_second is found.together_tokens_per_second is None


def test_vectors_have_no_speed_of_writing(llama: ModelFacts) -> None:
    assert predicted(dataclasses.replace(llama, task=Task.EMBEDDING)) == Speed()
