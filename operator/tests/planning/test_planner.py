"""Plans and refusals as a user sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from answers import planned, refused  # type: ignore[import-not-found]
from hypothesis import given, settings
from hypothesis import strategies as st

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_planning import explain
from llmservice_planning.plan import Fit, Plan, Refusal
from llmservice_planning.planner import make_plan
from llmservice_planning.remedies import Remedy, Stuck, remedies
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.formats.facts import (
    LayerGroup,
    LayerKind,
    ModelFacts,
    Quantization,
    Reads,
    Task,
    Width,
    WidthKind,
)
from llmservice_runtime.machine.machine import Device, EngineBuild, Machine

MakeFacts = Callable[..., ModelFacts]
MakeMachine = Callable[..., Machine]
MakeSpec = Callable[..., LLMServiceSpec]


def test_a_gguf_on_a_laptop(make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    plan = planned(make_plan(make_spec(contextTokens=4096), make_facts(gguf=True), make_machine(16), "abc"))
    assert (plan.engine, plan.accelerator, plan.accelerator_count, plan.fit) == (
        EngineType.LLAMA_CPP,
        "CPU",
        0,
        Fit.FITS,
    )
    assert (plan.context_tokens, plan.task, plan.revision, plan.missing) == (4096, "Chat", "abc", "")
    assert explain.used(plan) <= plan.memory_available
    assert plan.model == "llama 8.0 B, GGUF Q4_K_M, 4.6 GiB"


def test_weights_on_a_gpu_node(make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    plan = planned(make_plan(make_spec(), make_facts(), make_machine(kind="A100-80GB", count=4), ""))
    assert (plan.engine, plan.accelerator_count, plan.tensor_parallel_size) == (EngineType.VLLM, 1, 1)
    assert plan.context_tokens == 131072
    assert "--tensor-parallel-size=1" in plan.args
    two = planned(make_plan(make_spec(count=2), make_facts(), make_machine(kind="L4", count=4), ""))
    assert (two.accelerator_count, two.tensor_parallel_size) == (2, 2)


def test_how_fast_memory_lets_it_write_is_said(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    facts = make_facts(reads=Reads(13 * 10**9, 10**9))
    plan = planned(make_plan(make_spec(), facts, make_machine(kind="A100-80GB"), ""))
    assert plan.speed.tokens_per_second == float(f"{2039 / 14:.3g}")
    row = next(line for line in explain.text("default/llama", plan).splitlines() if line.startswith("  speed "))
    assert "one answer at most 146 tokens per second (" in row and "256 together at most" in row
    unknown = planned(make_plan(make_spec(), make_facts(), make_machine(kind="A100-80GB"), ""))
    assert "  speed      not known: the headers don't tell" in explain.text("default/llama", unknown)
    vectors = make_facts(task=Task.EMBEDDING, pooling="Mean")
    assert "  speed " not in explain.text(
        "x/y", planned(make_plan(make_spec(), vectors, make_machine(kind="A100-80GB"), ""))
    )


def test_an_engine_that_is_missing_is_planned_and_said(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    builds = (
        EngineBuild(EngineType.TRANSFORMERS, frozenset({Device.CPU}), False, "Use a GGUF of the same model."),
        EngineBuild(EngineType.LLAMA_CPP, frozenset({Device.CPU})),
    )
    machine = dataclasses.replace(make_machine(64), builds=builds)
    plan = planned(make_plan(make_spec(), make_facts(), machine, ""))
    assert plan.engine is EngineType.TRANSFORMERS
    text = explain.text("default/llama", plan)
    assert "can't start yet" in text
    assert "Transformers is not installed here. Use a GGUF of the same model." in text


def test_engine_arguments_of_the_user_come_last(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    plan = planned(make_plan(make_spec(engine={"args": ["--seed=1"]}), make_facts(), make_machine(kind="L4"), ""))
    assert plan.args[-1] == "--seed=1"


@pytest.mark.parametrize(
    ("fields", "facts", "failure", "words"),
    [
        ({}, {"task": Task.EMBEDDING}, FailureClass.UNSUPPORTED_FORMAT, "pooling_type"),
        ({"task": "Chat"}, {"task": Task.EMBEDDING, "pooling": "Mean"}, FailureClass.BAD_ARGUMENT, "for embedding"),
        ({"task": "Embedding"}, {}, FailureClass.BAD_ARGUMENT, "task is Embedding, but"),
        ({"task": "Rerank"}, {"task": Task.EMBEDDING, "pooling": "CLS"}, FailureClass.BAD_ARGUMENT, "for embedding"),
        ({"task": "Chat"}, {"has_chat_template": False}, FailureClass.BAD_ARGUMENT, "no chat template"),
        ({"contextTokens": 200_000}, {}, FailureClass.BAD_ARGUMENT, "200,000, more than the 131,072"),
        ({"engine": {"type": "VLLM"}}, {}, FailureClass.BAD_ARGUMENT, "engine.type is VLLM, but"),
        ({"count": 3}, {}, FailureClass.BAD_ARGUMENT, "no GPU"),
    ],
)
def test_contradictions_are_refused_with_a_way_out(
    make_spec: MakeSpec,
    make_facts: MakeFacts,
    make_machine: MakeMachine,
    fields: dict[str, object],
    facts: dict[str, object],
    failure: FailureClass,
    words: str,
) -> None:
    refusal = refused(make_plan(make_spec(**fields), make_facts(gguf=True, **facts), make_machine(64), ""))
    assert words in refusal.reason
    assert refusal.ways_out
    if "count" not in fields:
        assert refusal.failure is failure


def test_arguments_that_the_engine_would_refuse_are_refused_before_anything_starts(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    spec = make_spec(engine={"args": ["--kv-typ=q8_0"]})
    refusal = refused(make_plan(spec, make_facts(gguf=True), make_machine(64), ""))
    assert refusal.failure is FailureClass.BAD_ARGUMENT
    assert "--kv-typ=q8_0" in refusal.reason
    assert "--kv-type" in refusal.ways_out[0]


def test_a_variable_that_the_engine_can_not_be_run_with_is_refused_before_anything_starts(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    spec = make_spec(engine={"env": [{"name": "VLLM_USE_RUST_FRONTEND", "value": "1"}]})
    refusal = refused(make_plan(spec, make_facts(), make_machine(kind="L4"), ""))
    assert refusal.failure is FailureClass.BAD_ARGUMENT and refusal.field == "spec.engine.env"
    assert "VLLM_USE_RUST_FRONTEND is 1" in refusal.reason and refusal.ways_out == ("Leave it out.",)


@pytest.mark.parametrize(
    ("asked", "args", "facts", "gpu", "count", "way"),
    [
        ("LlamaCpp", [], {}, "H100", 1, "Set engine.type to VLLM, or leave it out: vLLM runs this model on 1 × H100"),
        (
            "Transformers",
            [],
            {"rope_types": ("deepseek_yarn",)},
            "H100",
            1,
            "Set engine.type to VLLM, or leave it out: vLLM",
        ),
        ("VLLM", [], {"rope_types": ("axial",)}, "H100", 1, "Set engine.type to Transformers, or leave it out: Trans"),
        ("VLLM", [], {"gguf": True}, "L4", 1, "Set engine.type to LlamaCpp, or leave it out: llama.cpp runs"),
        ("Transformers", [], {"gguf": True}, "", 0, "Set engine.type to LlamaCpp, or leave it out: llama.cpp runs"),
        ("LlamaCpp", ["--kv-type=q8_0"], {}, "H100", 1, "Set engine.type to VLLM and leave engine.args out: vLLM"),
        ("LlamaCpp", [], {}, "RTX-3070", 1, "Beside that: Use a machine with "),
    ],
)
def test_the_engine_that_would_run_it_is_the_way_out(
    make_spec: MakeSpec,
    make_facts: MakeFacts,
    make_machine: MakeMachine,
    asked: str,
    args: list[str],
    facts: dict[str, bool],
    gpu: str,
    count: int,
    way: str,
) -> None:
    spec, machine = make_spec(engine={"type": asked, "args": args}), make_machine(64, gpu, count)
    if gpu.startswith("RTX"):
        spec = make_spec(count=1, contextTokens=4096, engine={"type": asked, "args": args})
    refusal = refused(make_plan(spec, make_facts(**facts), machine, ""))
    assert refusal.field == "spec.engine.type"
    assert any(way in text for text in refusal.ways_out), refusal.ways_out


def test_gpu_counts_that_are_not_there_or_do_not_divide(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    node = make_machine(kind="L4", count=4)
    assert "there is 4 × L4" in refused(make_plan(make_spec(count=8), make_facts(), node, "")).reason
    alone = make_facts(architecture="Gemma3nForCausalLM")  # vLLM has it, and not as a pipeline
    odd = refused(make_plan(make_spec(count=3), alone, node, ""))
    assert "32 attention heads" in odd.reason
    assert "1, 2, 4" in odd.ways_out[0]


def test_memory_that_is_stated_of_the_gpus_wins(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    l4 = make_machine(64, "L4")
    less = make_spec(accelerator={"memory": "12Gi"})
    assert planned(make_plan(make_spec(), make_facts(), l4, "")).memory_available == int(l4.gpus[0].memory_bytes * 0.9)
    assert isinstance(make_plan(less, make_facts(), l4, ""), Refusal)
    plan = planned(make_plan(less, make_facts(gguf=True), l4, ""))
    assert plan.memory_available == int(12 * (1 << 30) * 0.9)


def test_memory_that_is_stated_of_no_gpu_is_said_to_change_nothing(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    spec, facts = make_spec(accelerator={"memory": "24Gi"}), make_facts(gguf=True)
    (said,) = (note for note in planned(make_plan(spec, facts, make_machine(16), "")).notes if "accelerator" in note)
    assert said.startswith("accelerator.memory (24Gi) changes nothing")
    assert said in refused(make_plan(spec, facts, make_machine(2), "")).reason
    assert said not in planned(make_plan(spec, facts, make_machine(64, "L4"), "")).notes


def test_a_gpu_that_is_not_known_names_the_field_that_helps(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    machine = dataclasses.replace(make_machine(64, "T4"), exact=False)
    plan = planned(make_plan(make_spec(count=1), make_facts(), machine, ""))
    assert plan.fit is Fit.UNKNOWN
    assert any("accelerator.memory" in note for note in plan.notes)


def test_a_refusal_names_the_shortfall_and_ways_that_work(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    refusal = refused(make_plan(make_spec(contextTokens=131072), make_facts(gguf=True), make_machine(12), ""))
    assert refusal.failure is FailureClass.DOES_NOT_FIT
    assert "GiB short" in refusal.reason
    assert 2 <= len(refusal.ways_out) <= 3
    assert refusal.ways_out[0].startswith("Set contextTokens to ")
    text = explain.refusal_text("default/llama", refusal)
    assert "1. Set contextTokens" in text
    assert "2. " in text


def test_completion_where_there_is_no_template(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    plan = planned(make_plan(make_spec(), make_facts(gguf=True, has_chat_template=False), make_machine(64), ""))
    assert plan.task == "Completion"


def test_partial_offload_is_explained(make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    plan = planned(make_plan(make_spec(contextTokens=32768), make_facts(gguf=True), make_machine(64, "P4"), ""))
    assert 0 < plan.gpu_layers < 32
    assert any("layers fit the GPU" in note for note in plan.notes)
    assert f"({plan.gpu_layers} layers" in explain.text("default/llama", plan, wide=True)


sizes = st.sampled_from([1, 7, 14, 32, 70])


@settings(max_examples=60, deadline=None)
@given(
    billions=sizes,
    gguf=st.booleans(),
    gib=st.floats(2, 200),
    gpu=st.sampled_from(["", "T4", "L4", "V100-16GB", "A100-40GB", "RTX-4090", "MI210"]),
    count=st.integers(1, 4),
    context=st.none() | st.integers(512, 131072),
    named=st.booleans(),
    stated=st.none() | st.integers(1, 4),
    groups=st.booleans(),
    args=st.sampled_from([(), ("--max-model-len=16384",), ("-tp=2",), ("--kv-cache-dtype=fp8", "--max-num-seqs=8")]),
)
def test_every_way_out_really_works(
    make_spec: MakeSpec,
    make_facts: MakeFacts,
    make_machine: MakeMachine,
    billions: int,
    gguf: bool,
    gib: float,
    gpu: str,
    count: int,
    context: int | None,
    named: bool,
    stated: int | None,
    groups: bool,
    args: tuple[str, ...],
) -> None:
    old = make_facts(gguf=gguf)
    if groups and not gguf:  # that only one GPU can have whole
        awq, width = Quantization("awq", "AWQ-Int4", 4, group_size=128), Width("width", 29568, WidthKind.DENSE)
        old = dataclasses.replace(old, quantization=awq, weight_bytes=old.weight_bytes // 3, widths=(width,))
    scale = billions * 1e9 / old.parameters
    facts = dataclasses.replace(
        old,
        parameters=int(billions * 1e9),
        weight_bytes=int(old.weight_bytes * scale),
        layer_weight_bytes=tuple(int(b * scale) for b in old.layer_weight_bytes),
    )
    accelerator = {"accelerator": {"resourceName": "nvidia.com/gpu"}} if named else {}
    if stated and gpu:
        accelerator = {"accelerator": {**accelerator.get("accelerator", {}), "count": stated}}  # type: ignore[dict-item]
    engine = {"args": [] if gguf or not gpu else list(args)}
    spec, machine = make_spec(contextTokens=context, engine=engine, **accelerator), make_machine(gib, gpu, count)
    answer = make_plan(spec, facts, machine, "")
    if isinstance(answer, Plan):
        assert explain.used(answer) <= answer.memory_available
        return
    assert answer.ways_out, answer.reason
    offered: list[Remedy] = []

    def record(s: LLMServiceSpec, f: ModelFacts, m: Machine) -> bool:
        LLMServiceSpec.model_validate(s.model_dump(mode="json", by_alias=True, exclude_none=True))
        works = isinstance(make_plan(s, f, m, ""), Plan)
        if works:
            offered.append(Remedy("", s, f, m))
        return works

    stuck = _stuck(spec, facts, machine)
    if stuck is None:
        return
    texts = [remedy.text for remedy in remedies(spec, facts, machine, stuck, record)]
    assert tuple(texts) == answer.ways_out
    assert len(offered) == len(texts)


def _stuck(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine) -> Stuck | None:
    from llmservice_planning import planner

    made = planner._decide(spec, facts, machine, "")
    return made[1] if isinstance(made, tuple) else None


@pytest.mark.parametrize("gguf", [False, True])
@pytest.mark.parametrize("layers", [(), (LayerGroup(LayerKind.FULL, 32),), (LayerGroup(LayerKind.FULL, 32, 8),)])
def test_a_cache_that_nobody_knows_is_not_counted_as_nothing(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine, gguf: bool, layers: tuple[LayerGroup, ...]
) -> None:
    facts = dataclasses.replace(make_facts(gguf=gguf), layers=layers)
    plan = planned(make_plan(make_spec(), facts, make_machine(64, kind="A100-80GB"), ""))
    assert (plan.fit, plan.context_tokens) == (Fit.UNKNOWN, 2048)
    assert not any(line.name.startswith("KV") for line in plan.memory)
    assert any("KV cache" in note and "contextTokens" in note for note in plan.notes)
    # What the user knows to fit is planned.
    stated = planned(make_plan(make_spec(contextTokens=32768), facts, make_machine(64, kind="A100-80GB"), ""))
    assert (stated.fit, stated.context_tokens) == (Fit.UNKNOWN, 32768)


def test_arguments_of_the_engine_are_planned_with(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    def plan(*args: str, **fields: object) -> Plan | Refusal:
        spec = make_spec(engine={"type": "VLLM", "args": list(args)}, **fields)
        return make_plan(spec, make_facts(), make_machine(64, "H100-80GB", 8), "")

    length = planned(plan("--max-model-len", "32k"))
    assert (length.context_tokens, length.args.count("--max-model-len=32000")) == (32000, 1)
    assert not [word for word in length.args if word in ("--max-model-len", "32k")]
    shared = planned(plan("-tp", "2", "--pipeline-parallel-size=2"))
    assert (shared.accelerator_count, shared.tensor_parallel_size, shared.pipeline_parallel_size) == (4, 2, 2)
    assert "a pipeline of 2 stages of 2 GPUs" in explain.text("default/llama", shared)
    few = planned(plan("--max-num-seqs=4"))
    assert few.max_sequences == 4
    more, usual = planned(plan("--gpu-memory-utilization=0.95")), planned(plan())
    assert more.memory_available > usual.memory_available
    assert planned(plan("--kv-cache-dtype=fp8")).kv_tokens == pytest.approx(2 * usual.kv_tokens, rel=0.01)
    bounded = planned(plan("--kv-cache-memory-bytes=4G"))
    assert sum(line.bytes for line in bounded.memory if line.is_cache) <= 4 << 30
    copies = planned(plan("--data-parallel-size=2"))
    assert (copies.accelerator_count, copies.max_sequences) == (2, 2 * usual.max_sequences)


@pytest.mark.parametrize(
    ("args", "fields", "words"),
    [
        (["--max-model-len=8192"], {"contextTokens": 4096}, ("--max-model-len=8192", "contextTokens is 4,096")),
        (["--max-model-len=1M"], {}, ("--max-model-len=1M", "131,072 the model was made for")),
        (["-tp=2"], {"count": 4}, ("--tensor-parallel-size=2", "accelerator.count is 4")),
        (["--tensor-parallel-size=3"], {}, ("--tensor-parallel-size=3", "32 attention heads")),
        (["--tensor-parallel-size=16"], {}, ("--tensor-parallel-size=16", "8 × H100-80GB")),
        (["--port=1"], {}, ("engine.args", "--port=1")),
        (["--model=/etc"], {}, ("engine.args", "--model=/etc")),
    ],
)
def test_arguments_that_contradict_plan_or_model_are_refused_by_name(
    make_spec: MakeSpec,
    make_facts: MakeFacts,
    make_machine: MakeMachine,
    args: list[str],
    fields: dict[str, object],
    words: tuple[str, str],
) -> None:
    spec = make_spec(engine={"type": "VLLM", "args": args}, **fields)
    refusal = refused(make_plan(spec, make_facts(), make_machine(64, "H100-80GB", 8), ""))
    assert refusal.failure is FailureClass.BAD_ARGUMENT
    assert all(word in refusal.reason for word in words)
    assert refusal.ways_out


def test_gpus_that_can_not_share_every_layer_get_layers_each(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    """Qwen2.5-72B as AWQ: 231 groups of 128 go to one GPU alone."""
    facts = make_facts(
        parameters=72_700_000_000,
        weight_bytes=41_600_000_000,
        quantization=Quantization("awq", "AWQ-Int4", 4, group_size=128),
        layers=(LayerGroup(LayerKind.FULL, 80, 8, 128, 128),),
        attention_heads=64,
        hidden_size=8192,
        widths=(Width("intermediate_size", 29568, WidthKind.DENSE),),
    )
    plan = planned(make_plan(make_spec(), facts, make_machine(64, "L4", 8), ""))
    assert (plan.tensor_parallel_size, plan.pipeline_parallel_size) == (1, plan.accelerator_count)
    assert f"--pipeline-parallel-size={plan.accelerator_count}" in plan.args
    alone = refused(make_plan(make_spec(), facts, make_machine(64, "L40S"), ""))
    assert alone.ways_out[0].startswith("Use a machine with 2 × L40S and add --pipeline-parallel-size=2 to engine.args")


def test_a_shortfall_names_arguments_and_a_length_of_theirs_that_fits(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    args = ["--max-model-len=131072", "--gpu-memory-utilization=0.95"]
    refusal = refused(make_plan(make_spec(engine={"args": args}), make_facts(), make_machine(64, "L4"), ""))
    assert "engine.args --max-model-len=131072 --gpu-memory-utilization=0.95" in refusal.reason
    way = refusal.ways_out[0]
    assert way.startswith("Set --max-model-len to ")
    tokens = way.split()[3]
    spec = make_spec(engine={"args": [f"--max-model-len={tokens}", args[1]]})
    assert planned(make_plan(spec, make_facts(), make_machine(64, "L4"), "")).context_tokens == int(tokens)
