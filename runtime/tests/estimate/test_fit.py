"""What fits where: counts, offload, contexts, and that what is planned is inside the budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.llamacpp.arguments import parse_args
from llmservice_runtime.engines.llamacpp.memory import LlamaMemory, streams
from llmservice_runtime.engines.llamacpp.options import LlamaOptions, llama_options
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.engines.vllm.memory import VllmMemory
from llmservice_runtime.estimate.budget import GPU, HOST, Layout, total
from llmservice_runtime.estimate.fit import Fit, Placement, Shortfall, Target, arrange, place
from llmservice_runtime.estimate.overhead import host_budget
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts
from llmservice_runtime.machine.gpus import find_gpu
from llmservice_runtime.machine.machine import Device, Machine

GIB = 1 << 30
Geometry = Callable[..., ModelFacts]


def on_gpus(
    facts: ModelFacts, engine: EngineType, kind: str, count: int, context: int | None = None
) -> Placement | Shortfall:
    gpu = find_gpu(kind)
    machine = Machine(16, 512 * GIB, 500 * GIB, gpus=(gpu,) * count)
    return place(Target(facts, definition(engine).memory(()), gpu.vendor, machine, gpu, context=context))


def on_cpu(facts: ModelFacts, gib: float, context: int | None = None) -> Placement | Shortfall:
    machine = Machine(8, int(gib * GIB), int(gib * GIB))
    return place(Target(facts, LlamaMemory(), Device.CPU, machine, context=context))


def inside(target_available: int, placement: Placement, where: str) -> bool:
    return total(placement.lines, where) <= target_available


@pytest.mark.parametrize(
    ("name", "kind", "have", "count"),
    [
        ("llama-3.1-8b", "L4", 4, 1),
        ("llama-3.1-8b", "T4", 4, 2),
        ("llama-3-70b", "A100-80GB", 8, 4),
        ("llama-3-70b", "H200", 8, 2),
        ("qwen2.5-7b", "T4", 8, 2),
    ],
)
def test_fewest_gpus_that_hold_it(geometry: Geometry, name: str, kind: str, have: int, count: int) -> None:
    placed = on_gpus(geometry(name), EngineType.VLLM, kind, have)
    assert isinstance(placed, Placement)
    assert placed.shape.gpus == count
    assert placed.shape.context_tokens >= min(8192, geometry(name).context_tokens)


def test_what_does_not_fit_is_known_after_a_few_looks(geometry: Geometry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal tries a dozen ways out, and a manifest may hold hundreds of services."""
    looked, lines = [], LlamaMemory.lines

    def looking(*given: Any) -> Any:
        looked.append(1)
        return lines(*given)

    monkeypatch.setattr(LlamaMemory, "lines", looking)
    assert isinstance(on_cpu(geometry("llama-3-70b"), 8), Shortfall)
    assert len(looked) <= 10


def test_tensor_parallel_sizes_divide_the_heads(geometry: Geometry) -> None:
    qwen = geometry("qwen2.5-7b")  # 28 heads, 4 KV heads
    assert [n for n in range(1, 9) if Layout(n) in VllmMemory().layouts(qwen, n)] == [1, 2, 4]
    llama = geometry("llama-3-70b")  # 64 heads, 8 KV heads
    assert [n for n in range(1, 17) if Layout(n) in VllmMemory().layouts(llama, n)] == [1, 2, 4, 8, 16]


def test_gguf_moves_whole_onto_a_gpu_that_holds_it_and_partly_onto_one_that_does_not(geometry: Geometry) -> None:
    facts = geometry("llama-3.1-8b-q4")
    whole = on_gpus(facts, EngineType.LLAMA_CPP, "RTX-4090", 1)
    assert isinstance(whole, Placement)
    assert whole.shape.gpu_layers == 33
    assert total(whole.lines, HOST) < 2 * GIB
    partly = on_gpus(facts, EngineType.LLAMA_CPP, "P4", 1, context=32768)
    assert isinstance(partly, Placement)
    assert 0 < partly.shape.gpu_layers < 32
    assert inside(int(find_gpu("P4").memory_bytes * 0.9), partly, GPU)
    more = arrange(
        Target(
            facts,
            LlamaMemory(),
            Device.NVIDIA,
            Machine(8, 500 * GIB, 500 * GIB, gpus=(find_gpu("P4"),)),
            find_gpu("P4"),
            context=32768,
        ),
        1,
        partly.shape.gpu_layers + 1,
    )
    assert isinstance(more, Shortfall), "one layer more does not fit"


def test_a_planned_context_is_the_models_where_memory_allows(geometry: Geometry) -> None:
    placed = on_cpu(geometry("llama-3.1-8b-q4"), 128)
    assert isinstance(placed, Placement)
    assert placed.shape.context_tokens == 131072


def test_a_small_host_gets_a_useful_context_and_is_told_what_would_fit(geometry: Geometry) -> None:
    placed = on_cpu(geometry("llama-3.1-8b-q4"), 8)
    assert isinstance(placed, Placement)
    assert 8192 <= placed.shape.context_tokens <= placed.largest_context < 131072


def test_small_contexts_get_a_stream_each(geometry: Geometry) -> None:
    placed = on_cpu(geometry("llama-3.1-8b-q4"), 64, context=2048)
    assert isinstance(placed, Placement)
    assert placed.shape.kv_tokens == placed.shape.sequences * 2048
    assert streams(placed.shape)


def test_what_does_not_fit_says_what_is_missing(geometry: Geometry) -> None:
    short = on_cpu(geometry("llama-3.1-8b-q4"), 4)
    assert isinstance(short, Shortfall)
    assert short.where == HOST
    assert short.largest_context == 0
    assert short.missing == total(short.lines, HOST) - host_budget(4 * GIB)


def test_the_unknown_machine_is_tried(geometry: Geometry) -> None:
    facts, gpu = geometry("llama-3-70b"), find_gpu("L4")
    machine = Machine(8, 64 * GIB, 64 * GIB, gpus=(gpu,), exact=False)
    placed = place(Target(facts, VllmMemory(), Device.NVIDIA, machine, gpu))
    assert isinstance(placed, Placement)
    assert placed.fit is Fit.UNKNOWN


def test_recurrent_states_lower_the_number_of_sequences(geometry: Geometry) -> None:
    layers = (LayerGroup(LayerKind.RECURRENT, 32, state_bytes=8 << 20),)
    facts = geometry("llama-3.1-8b-q4", layers=layers)
    placed = on_cpu(facts, 8)
    assert isinstance(placed, Placement)
    assert placed.shape.sequences < 16


@settings(max_examples=60, deadline=None)
@given(
    gib=st.floats(1, 600),
    context=st.none() | st.integers(16, 131072),
    name=st.sampled_from(["llama-3.1-8b", "llama-3.1-8b-q4", "llama-2-13b", "llama-3-70b"]),
)
def test_the_plan_is_inside_the_budget_and_the_largest_context_is_real(
    geometry: Geometry, gib: float, context: int | None, name: str
) -> None:
    facts = geometry(name)
    machine = Machine(8, int(gib * GIB), int(gib * GIB))
    target = Target(facts, LlamaMemory(), Device.CPU, machine, context=context)
    placed = place(target)
    if isinstance(placed, Placement):
        assert inside(target.available(HOST), placed, HOST)
        assert placed.shape.kv_tokens >= placed.shape.context_tokens
        assert placed.largest_context >= placed.shape.context_tokens
    if placed.largest_context >= 16:
        again = place(dataclasses.replace(target, context=placed.largest_context))
        assert isinstance(again, Placement)


def test_an_eight_bit_cache_holds_almost_twice_the_context(geometry: Geometry) -> None:
    facts = geometry("llama-3.1-8b-q4")
    machine = Machine(8, 12 * GIB, 12 * GIB)
    full = place(Target(facts, LlamaMemory(), Device.CPU, machine))
    for args in (["--kv-type=q8_0"], ["--kv-type", "q8_0"]):
        options = llama_options(parse_args(args))
        eight = place(Target(facts, LlamaMemory(options), Device.CPU, machine))
        assert 1.8 < eight.largest_context / full.largest_context < 1.95


def test_models_whose_memory_cannot_be_shared_get_whole_streams(geometry: Geometry) -> None:
    layers = (LayerGroup(LayerKind.FULL, 6, 4, 256, 256), LayerGroup(LayerKind.SLIDING, 28, 4, 256, 256, window=1024))
    placed = on_cpu(geometry("llama-3.1-8b-q4", layers=layers), 32, context=8192)
    assert isinstance(placed, Placement)
    assert streams(placed.shape)
    assert placed.shape.kv_tokens == placed.shape.sequences * 8192


def test_arguments_that_change_no_memory_change_no_estimate() -> None:
    assert llama_options(parse_args([])) == llama_options(parse_args(["--threads=3", "--mlock"])) == LlamaOptions()
    assert llama_options(parse_args(["--ubatch-size", "1024", "--kv-layout=split"])) == LlamaOptions(
        ubatch=1024, split=True
    )


def test_no_more_than_all_memory_is_kept_free() -> None:
    assert host_budget(100 << 20) == 0
    assert 0 < host_budget(1 << 30) < 1 << 30
