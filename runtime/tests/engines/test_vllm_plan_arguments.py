"""spec.engine.args of vLLM in a plan: read as vLLM reads them, counted with, and on the command line once."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.base.case import Case
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.engines.vllm.arguments import read, words
from llmservice_runtime.engines.vllm.options import VllmOptions, vllm_options
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.budget import GPU, HOST, Layout, MemoryLine, Shape
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Quantization, Task
from llmservice_runtime.machine.gpus import find_gpu
from llmservice_runtime.machine.machine import Device, Machine

VLLM = definition(EngineType.VLLM)
GIB = 1 << 30
FACTS = ModelFacts(
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
SHAPE = Shape(Device.NVIDIA, 8192, 16, 65536, gpus=1)


def case(kind: str = "H100", /, **changes: Any) -> Case:
    gpu = find_gpu(kind)
    return Case(dataclasses.replace(FACTS, **changes), Machine(8, 64 * GIB, 64 * GIB, gpus=(gpu,)), gpu.vendor, gpu)


def lines(*args: str, shape: Shape = SHAPE, facts: ModelFacts = FACTS) -> tuple[MemoryLine, ...]:
    return VLLM.memory(args).lines(facts, shape)


def size(found: tuple[MemoryLine, ...], name: str, where: str = GPU) -> int:
    return sum(line.bytes for line in found if line.name.startswith(name) and line.where == where)


@pytest.mark.parametrize(
    "args",
    [
        ("--max-model-len=32000",),
        ("--max-model-len", "32000"),
        ("--max_model_len=32k",),
        ("--max-model", "32k"),
        ("--max-model-len=8", "--max-model-len=32k"),
    ],
    ids=" ".join,
)
def test_a_length_in_every_spelling_is_the_plans(args: tuple[str, ...]) -> None:
    assert VLLM.memory(args).asked.context_tokens == 32000
    command = VLLM.arguments(case(), dataclasses.replace(SHAPE, context_tokens=32000), args)
    assert [word for word in command if "max" in word and "len" in word] == ["--max-model-len=32000"]


@pytest.mark.parametrize("text", ["auto", "-1"])
def test_a_length_that_is_left_to_the_engine_is_planned(text: str) -> None:
    assert VLLM.memory((f"--max-model-len={text}",)).asked.context_tokens is None


@pytest.mark.parametrize(
    ("args", "layout"),
    [
        (("-tp", "2"), Layout(2)),
        (("-tp=4", "--pipeline-parallel-size=2"), Layout(4, 2)),
        (("-pp", "3"), Layout(1, 3)),
        (("-dp=2", "--tensor_parallel_size", "2"), Layout(2, 1, 2)),
        (("--tensor-par=2", "-tp=8"), Layout(8)),
        ((), None),
    ],
)
def test_what_is_not_given_of_the_parallel_sizes_is_one(args: tuple[str, ...], layout: Layout | None) -> None:
    assert VLLM.memory(args).asked.layout == layout


def test_a_value_stands_once_on_the_command_line() -> None:
    args = ("-tp=2", "--gpu-memory-utilization=0.95", "--max-num-seqs=8", "--seed=1", "--seed", "2", "-tp", "4")
    shape = dataclasses.replace(SHAPE, sequences=8, gpus=4, layout=Layout(4))
    assert VLLM.arguments(case(), shape, args) == (
        "--max-model-len=8192",
        "--max-num-seqs=8",
        "--tensor-parallel-size=4",
        "--gpu-memory-utilization=0.95",
        "--seed=2",
    )


def test_a_type_of_the_users_replaces_the_planned_one() -> None:
    old = case("T4")
    assert "--dtype=float16" in VLLM.arguments(old, SHAPE, ())
    assert [w for w in VLLM.arguments(old, SHAPE, ("--dtype=half",)) if "dtype" in w] == ["--dtype=half"]


def test_flags_and_parts_of_json_values_are_put_together_as_vllm_does() -> None:
    found = read(
        ("--enable-prefix-caching", "--no-enable-prefix-caching", "-cc.mode=3", "-cc.sizes+=1,2", "-cc.a.b", "x")
    )
    assert words(found)[0] == "--no-enable-prefix-caching"
    assert found["--enable-prefix-caching"].value is False
    assert json.loads(words(found)[1].partition("=")[2]) == {"mode": 3, "sizes": ["1", "2"], "a": {"b": "x"}}


_ONE = st.sampled_from([
    ("--max-model-len", "8k"), ("--max-model-len=1.5k",), ("-tp", "2"), ("--no-enable-prefix-caching",), ("-O3",),
    ("--kv_cache_dtype=fp8",), ("--compilation-config", '{"mode": 3}'), ("-cc.mode=2",), ("--seed=7",), ("-O", "1"),
    ("--limit-mm-per-prompt.image", "2"), ("--enforce-eager",), ("--lora-modules", "a=/b", "c=/d"),
    ("-q", "fp8_per_tensor"),
    ("--hf-overrides", '{"rope_scaling": {"factor": 2}}'), ("--cpu-offload-gb=3.5",),
    ("--max-num-batched-tokens", "16K"),
])  # fmt: skip


@given(st.lists(_ONE, max_size=8))
def test_reading_what_was_written_changes_nothing(given_: list[tuple[str, ...]]) -> None:
    once = read([word for one in given_ for word in one])
    again = read(words(once))
    assert words(again) == words(once)
    assert {name: argument.value for name, argument in again.items()} == {n: a.value for n, a in once.items()}


def test_every_option_that_plans_count_with_is_one_of_vllms() -> None:
    from llmservice_runtime.engines.vllm import contradictions, options
    from llmservice_runtime.engines.vllm.owned import OWNED

    named = {*OWNED, *contradictions.HARMLESS, *options.PLANNED}
    assert not {name for name in named if name not in known().options}
    assert set(known().options["--kv-cache-dtype"].choices) - {"auto"} <= set(known().kv_types)


def test_an_eight_bit_cache_is_half_of_it() -> None:
    assert size(lines("--kv-cache-dtype=fp8"), "KV") * 2 == size(lines(), "KV")
    assert size(lines("--kv-cache-dtype=auto"), "KV") == size(lines(), "KV")


def test_32_bits_double_weights_and_cache() -> None:
    for name in ("weights", "KV"):
        assert size(lines("--dtype=float32"), name) == pytest.approx(2 * size(lines(), name), rel=1e-6)


def test_weights_left_on_the_host_move_there() -> None:
    moved = lines("--cpu-offload-gb=6")
    assert size(lines(), "weights") - size(moved, "weights") == 6 * GIB == size(moved, "weights", HOST)
    two = lines("--cpu-offload-gb=3", shape=dataclasses.replace(SHAPE, gpus=2, layout=Layout(2)))
    assert size(two, "weights", HOST) == 6 * GIB


def test_weights_that_are_converted_while_loading_take_half() -> None:
    eight = size(lines("--quantization=fp8_per_tensor"), "weights")
    assert 0.5 < eight / size(lines(), "weights") < 0.62, "the embeddings stay as they are"
    assert size(lines("-q=int8_per_channel_weight_only"), "weights") == size(lines(), "weights"), "experts alone"


def test_larger_steps_and_more_sequences_take_larger_buffers() -> None:
    usual = size(lines(), "engine and")
    assert size(lines("--max-num-batched-tokens=64k"), "engine and") > usual
    many = dataclasses.replace(SHAPE, sequences=4096)
    assert size(lines("--max-num-seqs=4096", shape=many), "engine and") > usual


def test_adapters_and_a_cache_on_the_host_have_their_lines() -> None:
    some = lines("--enable-lora", "--max-loras=4", "--max-lora-rank=64", "--kv-offloading-size=10")
    assert size(some, "adapters") == 16 * size(lines("--enable-lora"), "adapters") > 0
    assert size(some, "cache offloaded", HOST) == 10 * GIB
    assert not size(lines("--max-loras=4"), "adapters")


def test_what_is_not_counted_is_said() -> None:
    assert "drafts" in VLLM.memory(("--speculative-config", '{"model": "a/b", "num_speculative_tokens": 3}')).notes[0]
    assert not VLLM.memory(("-sc", '{"method": "ngram", "num_speculative_tokens": 3}')).notes


def test_a_share_of_the_gpu_and_of_the_cache() -> None:
    assert VLLM.memory(("--gpu-memory-utilization=0.5",)).utilisation == 0.5
    assert VLLM.memory(("--device-memory-utilization=0.4",)).utilisation == 0.4
    assert VLLM.memory(("--kv-cache-memory-bytes=2G",)).cache_bytes == 2 * GIB


def test_a_cache_takes_all_that_it_is_told_to() -> None:
    """Also what no sequence needs: a plan that counts less starts a vLLM that runs out of memory."""
    assert size(lines("--kv-cache-memory-bytes=60G"), "KV cache") == 60 * GIB
    least = size(lines("--kv-cache-memory-bytes=400"), "KV cache")
    assert least == size(lines(), "KV cache"), "what does not hold the pool is found by its limit"


def test_a_short_step_bounds_sequences_and_whole_prompts_lengthen_it() -> None:
    assert VLLM.memory(("--max-num-batched-tokens=100",)).asked.sequences == 100
    assert VLLM.memory(("--max-num-batched-tokens=8k",)).asked.sequences is None
    long = dataclasses.replace(SHAPE, context_tokens=65536)
    cut, whole = (size(lines(*args, shape=long), "engine and") for args in ((), ("--no-enable-chunked-prefill",)))
    assert whole > cut + GIB


@pytest.mark.parametrize(
    ("args", "changes", "named"),
    [
        (("--model=/etc",), {}, "--model=/etc"),
        (("--port", "9000"), {}, "--port=9000"),
        (("--served-model-name", "a", "b"), {}, "--served-model-name a b"),
        (("--serv", "a"), {}, "--served-model-name a"),
        (("--host=0.0.0.0",), {}, "--host=0.0.0.0"),
        (("--tokenizer=/x",), {}, "--tokenizer"),
        (("--download-dir", "/x"), {}, "--download-dir"),
        (("--config", "a.yaml"), {}, "--config=a.yaml"),
        (("--nnodes=2",), {}, "--nnodes=2"),
        (("--headless",), {}, "--headless"),
        (("--tool-call-parser=hermess",), {}, "--tool-call-parser=hermess is no parser of vLLM"),
        (("--reasoning-parser", "nope"), {}, "--reasoning-parser=nope is no parser of vLLM"),
        (("--load-format=dummy",), {}, "random weights"),
        (("--load-format=gguf",), {}, "--load-format=gguf"),
        (("--load-format=sharded_state",), {}, "--load-format=sharded_state"),
        (("--max-num-batched-tokens=100", "--max-num-seqs=200"), {}, "less than --max-num-seqs=200"),
        (("--max-num-batched-tokens=2k", "--no-enable-chunked-prefill"), {}, "a prompt of 131,072 tokens"),
        (("--max-num-batched-tokens=2k", "--no-enable-chunked-prefill", "--max-model-len=4k"), {}, "a prompt of 4,000"),
        (("--runner=pooling",), {}, "--runner=pooling"),
        (("--max-model-len=0",), {}, "--max-model-len=0"),
        (("--max-model-len=-5",), {}, "--max-model-len=-5"),
        (("--quantization=awq",), {}, "weights are BF16"),
        (("--quantization=nonsense",), {}, "no method of vLLM"),
        (("-q", "gptq"), {"quantization": Quantization("awq", "AWQ-Int4", 4)}, "AWQ-Int4"),
        (("--dtype=float32",), {"quantization": Quantization("awq", "AWQ-Int4", 4)}, "--dtype=float32"),
        (("--dtype=float16",), {"model_type": "gemma2"}, "overflow fp16"),
        (("--enable-expert-parallel",), {}, "no experts"),
        (("--hf-overrides", '{"num_hidden_layers": 4}'), {}, "num_hidden_layers"),
        (("--hf-overrides", '{"text_config": {"hidden_size": 4}}'), {}, "hidden_size"),
        (("--hf-overrides", '{"rope_scaling": {"factor": 4.0}}'), {}, "rope_scaling"),
        (("--hf-overrides.rope_scaling.factor", "4.0"), {}, "rope_scaling"),
        (("--hf-overrides=some.function",), {}, "as a function"),
        (("--trust-remote-code",), {}, "--trust-remote-code"),
    ],
)
def test_what_contradicts_plan_or_model_is_refused_by_name(
    args: tuple[str, ...], changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError) as caught:
        VLLM.contradiction(case(**changes), args)
    assert named in caught.value.reason
    assert "engine.args" in caught.value.reason
    assert caught.value.remedy


def test_what_contradicts_the_device_is_refused() -> None:
    with pytest.raises(UserError, match="no bf16"):
        VLLM.contradiction(case("T4"), ("--dtype=bfloat16",))
    cpu = Case(FACTS, Machine(8, 64 * GIB, 64 * GIB), Device.CPU)
    with pytest.raises(UserError, match="on the CPU nothing is shared"):
        VLLM.contradiction(cpu, ("-tp=2",))


@pytest.mark.parametrize(
    ("args", "changes"),
    [
        (("--runner=generate",), {}),
        (("--quantization=awq_marlin",), {"quantization": Quantization("awq", "AWQ-Int4", 4)}),
        (("--quantization=fp8_per_tensor",), {}),
        (("--quantization=modelopt_fp4",), {"quantization": Quantization("modelopt_fp4", "NVFP4", 4)}),
        (("--no-trust-remote-code",), {}),
        (("--hf-overrides", '{"rope_scaling": {"factor": 4.0}}', "--max-model-len=200k"), {}),
        (("--load-format=safetensors",), {}),
        (("--max-num-batched-tokens=2k", "--no-enable-chunked-prefill", "--max-model-len=2k"), {}),
        (("--max-num-batched-tokens=100", "--max-num-seqs=100"), {}),
    ],
)
def test_what_is_the_case_anyway_is_taken(args: tuple[str, ...], changes: dict[str, Any]) -> None:
    VLLM.contradiction(case(**changes), args)


def test_a_context_beyond_the_model_needs_the_override_that_stretches_it() -> None:
    assert not VLLM.memory(("--max-model-len=200k",)).lifts_context
    assert VLLM.memory(("--max-model-len=200k", "--hf-overrides", '{"rope_scaling": {"factor": 4.0}}')).lifts_context
    assert vllm_options(("--hf-overrides", '{"text_config": {"max_position_embeddings": 9}}')).lifts_context
    assert not VllmOptions().lifts_context
