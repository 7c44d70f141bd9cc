"""The support table, row by row, and the selector's rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.base.choice import Choice, NoChoice
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Task
from llmservice_runtime.machine.machine import Device, EngineBuild, Machine
from llmservice_runtime.selection.choose import choose, judge

MakeFacts = Callable[..., ModelFacts]
MakeMachine = Callable[..., Machine]
VLLM, TF, LLAMA = EngineType.VLLM, EngineType.TRANSFORMERS, EngineType.LLAMA_CPP


def chosen(answer: Choice | NoChoice) -> tuple[EngineType, Device]:
    assert isinstance(answer, Choice), answer
    return answer.engine, answer.device


def why_not(answer: Choice | NoChoice, engine: EngineType) -> str:
    return next(r.reason for r in answer.rejected if r.engine is engine)


OTHER_METHODS = ("aqlm", "hqq", "eetq", "higgs", "quanto", "spqr", "vptq", "bitnet", "sinq", "fouroversix")

ON_GPU = [
    # method, facts, capability -> engine (rows 1 to 14 of the table); None = Transformers lacks packages for it
    (None, {}, 80, VLLM),
    (None, {"dtype": "F16"}, 75, VLLM),
    (None, {"dtype": "F16"}, 70, TF),
    ("gptq", {"symmetric": True, "desc_act": False, "group_size": 128}, 75, VLLM),
    ("gptq", {"bits": 8.0, "symmetric": True}, 80, VLLM),
    ("gptq", {"bits": 3.0, "symmetric": True}, 80, None),
    ("gptq", {"symmetric": False}, 80, None),
    ("gptq", {"symmetric": True, "desc_act": True, "group_size": 128}, 80, None),
    ("gptq", {"symmetric": True, "desc_act": True, "group_size": -1}, 80, VLLM),
    ("awq", {}, 75, VLLM),
    ("awq", {"bits": 8.0}, 80, None),
    ("fp8", {"bits": 8.0}, 80, VLLM),
    ("compressed-tensors", {"scheme": "pack-quantized"}, 75, VLLM),
    ("compressed-tensors", {"kv_cache": "FP8"}, 89, VLLM),
    ("compressed-tensors", {"kv_cache": "INT8"}, 89, TF),
    ("compressed-tensors", {"scheme": "mxfp4-pack-quantized"}, 75, TF),
    ("compressed-tensors", {"scheme": "W4A8-fp8"}, 89, TF),
    ("compressed-tensors", {"scheme": "W4A8-fp8"}, 90, VLLM),
    ("bitsandbytes", {"scheme": "nf4"}, 80, TF),
    ("modelopt", {"bits": 8.0}, 80, VLLM),
    ("modelopt_fp4", {}, 75, VLLM),
    ("mxfp4", {}, 80, VLLM),
    ("mxfp4", {}, 75, None),
    ("torchao", {}, 80, TF),
    ("quark", {}, 80, VLLM),
    ("auto-round", {}, 80, VLLM),
    ("inc", {}, 80, VLLM),
    ("fbgemm_fp8", {"bits": 8.0}, 90, None),
    ("fp_quant", {}, 100, None),
    ("experts_int8", {"bits": 8.0}, 80, VLLM),
    ("moe_wna16", {}, 75, VLLM),
    ("bitnet", {}, 80, TF),
    *[(m, {}, 80, None) for m in ["aqlm", "hqq", "eetq", "higgs", "quanto", "spqr", "vptq", "sinq", "fouroversix"]],
]


@pytest.mark.parametrize(("method", "extra", "capability", "engine"), ON_GPU)
def test_table_on_nvidia_gpus(
    make_facts: MakeFacts,
    make_machine: MakeMachine,
    method: str | None,
    extra: dict[str, object],
    capability: int,
    engine: EngineType | None,
) -> None:
    answer = choose(make_facts(method, **extra), make_machine(capability))
    if engine is None:
        assert isinstance(answer, NoChoice) and "this release has not" in why_not(answer, TF)
    else:
        assert chosen(answer) == (engine, Device.NVIDIA)


ON_CPU = [
    (None, {}, "avx2", TF),
    ("gptq", {"symmetric": True}, "avx2", VLLM),
    ("gptq", {"symmetric": True, "bits": 8.0}, "avx2", None),
    ("awq", {}, "avx2", VLLM),
    ("bitsandbytes", {"scheme": "nf4"}, "avx2", TF),
    ("fp8", {"bits": 8.0}, "avx2 amx_tile", VLLM),
    ("compressed-tensors", {"scheme": "int-quantized"}, "avx2", VLLM),
    ("compressed-tensors", {"scheme": "nvfp4-pack-quantized"}, "avx2", TF),
    ("mxfp4", {}, "avx2", None),
    (None, {}, "sse4_2", TF),
]


@pytest.mark.parametrize(("method", "extra", "flags", "engine"), ON_CPU)
def test_table_on_cpus(
    make_facts: MakeFacts,
    make_machine: MakeMachine,
    method: str | None,
    extra: dict[str, object],
    flags: str,
    engine: EngineType | None,
) -> None:
    answer = choose(make_facts(method, **extra), make_machine(flags=flags))
    if engine is None:
        assert isinstance(answer, NoChoice) and "this release has not" in why_not(answer, TF)
    else:
        assert chosen(answer) == (engine, Device.CPU)


@pytest.mark.parametrize("capability", [0, 61, 70, 75, 90])
def test_gguf_is_llama_cpp_always(make_facts: MakeFacts, make_machine: MakeMachine, capability: int) -> None:
    answer = choose(make_facts("gguf", ModelFormat.GGUF, name="Q4_K_M"), make_machine(capability))
    assert chosen(answer)[0] is LLAMA
    assert "plug-in" in why_not(answer, VLLM)
    assert "unpack" in why_not(answer, TF)


def test_mistral_layout_is_vllm_only(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    answer = choose(make_facts(form=ModelFormat.MISTRAL), make_machine(80))
    assert chosen(answer) == (VLLM, Device.NVIDIA)
    assert "params.json" in why_not(answer, TF)


@pytest.mark.parametrize("method", ["exl2", "exl3", "mlx", "onnx", "never-heard-of-it"])
def test_formats_of_other_engines_are_refused_with_a_way_out(
    make_facts: MakeFacts, make_machine: MakeMachine, method: str
) -> None:
    answer = choose(make_facts(method), make_machine(80))
    assert isinstance(answer, NoChoice)
    assert any("GGUF" in way for way in answer.ways_out)
    assert {r.engine for r in answer.rejected} == set(EngineType)


@pytest.mark.parametrize(
    ("method", "vendor", "engine"),
    [
        ("awq", Device.AMD, VLLM),
        ("experts_int8", Device.AMD, None),
        ("auto-round", Device.INTEL, VLLM),
        ("quark", Device.INTEL, None),
    ],
)
def test_other_gpus_run_a_subset(
    make_facts: MakeFacts, make_machine: MakeMachine, method: str, vendor: Device, engine: EngineType | None
) -> None:
    answer = choose(make_facts(method), make_machine(vendor=vendor))
    if engine is None:
        assert isinstance(answer, NoChoice)
    else:
        assert chosen(answer) == (engine, vendor)


def test_old_gpus_change_what_is_computed_and_say_so(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    on_t4 = choose(make_facts(), make_machine(75))
    assert isinstance(on_t4, Choice)
    assert any("fp16" in note for note in on_t4.notes)
    fp8 = choose(make_facts("fp8", bits=8.0), make_machine(80))
    assert isinstance(fp8, Choice)
    assert any("W8A16" in note for note in fp8.notes)
    gemma = choose(make_facts(model_type="gemma3_text"), make_machine(75))
    assert chosen(gemma)[0] is TF
    assert "overflow" in why_not(gemma, VLLM)


def test_an_override_that_can_is_taken_and_one_that_cannot_is_refused_with_the_reason(
    make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    assert chosen(choose(make_facts(), make_machine(80), TF)) == (TF, Device.NVIDIA)
    answer = choose(make_facts(), make_machine(80), LLAMA)
    assert isinstance(answer, NoChoice)
    assert answer.reason == (
        "engine.type is LlamaCpp, but llama.cpp reads GGUF only, and this model is Safetensors; "
        "a GGUF of the same model would run."
    )
    assert answer.instead == (VLLM, TF)
    assert "engine.type asks for llama.cpp" in why_not(answer, VLLM)


def test_an_engine_is_not_rejected_for_a_device_that_it_does_not_need(
    make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    builds = tuple(EngineBuild(e, frozenset({Device.NVIDIA})) for e in EngineType)
    answer = choose(make_facts(), make_machine(80, builds=builds), LLAMA)
    assert isinstance(answer, NoChoice)
    assert "the CPU" not in f"{why_not(answer, VLLM)} {why_not(answer, TF)}"


def test_what_no_engine_runs_is_said_with_the_machine_that_was_asked_about(
    make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    answer = choose(make_facts("exl2"), make_machine(90))
    assert isinstance(answer, NoChoice)
    assert "(SM 9.0) or the CPU: vLLM has no exl2 kernels" in answer.reason


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("FooBarForCausalLM", "vLLM 0.32.0 does not know the architecture FooBarForCausalLM."),
        ("QWenLMHeadModel", "vLLM ran QWenLMHeadModel up to version 0.23.0"),
        ("LlavaLlamaForCausalLM", "does not know the architecture LlavaLlamaForCausalLM."),
    ],
)
def test_an_architecture_that_nobody_has_is_what_is_said(
    make_facts: MakeFacts, make_machine: MakeMachine, architecture: str, words: str
) -> None:
    answer = choose(make_facts(architecture=architecture, remote_code=True), make_machine(90))
    assert isinstance(answer, NoChoice)
    assert words in answer.reason
    assert any("often named -hf" in way for way in answer.ways_out)
    gguf = choose(make_facts("gguf", ModelFormat.GGUF, architecture="foobar"), make_machine(90))
    assert isinstance(gguf, NoChoice)
    assert "does not know the architecture foobar." in gguf.reason


@pytest.mark.parametrize(
    ("names", "engine"),
    [
        (("FooForCausalLM", "LlamaForCausalLM"), VLLM),  # the first that vLLM has code for
        (("MllamaForConditionalGeneration", "LlamaForCausalLM"), VLLM),
        (("FooForCausalLM", "MllamaForConditionalGeneration"), TF),
        (("MllamaForConditionalGeneration",), TF),
        (("FooForCausalLM", "HeliumForCausalLM"), TF),  # Transformers' code is lent to the first name only
        (("MPTForCausalLM",), TF),  # whose auto classes go by model_type: it spells MptForCausalLM
        (("qwen2forcausallm",), TF),
        (("FooForCausalLM", "BarForCausalLM"), None),
    ],
)
def test_of_several_architectures_the_first_that_is_known_counts(
    make_facts: MakeFacts, make_machine: MakeMachine, names: tuple[str, ...], engine: EngineType | None
) -> None:
    facts = dataclasses.replace(make_facts(architecture=names[0]), other_architectures=names[1:])
    answer = choose(facts, make_machine(90))
    assert (answer.engine if isinstance(answer, Choice) else None) is engine


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("", "names no architecture"),
        ("InternLM2Model", "architectures in config.json should be InternLM2ForCausalLM"),
        ("HF_ColBERT", "for other things than writing text (LateInteraction)"),
        ("EagleLlamaForCausalLM", "(SpeculativeDecoding)"),
    ],
)
def test_what_vllm_serves_for_vectors_writes_no_text_there(
    make_facts: MakeFacts, make_machine: MakeMachine, architecture: str, words: str
) -> None:
    facts = dataclasses.replace(make_facts(), architecture=architecture)
    answer = choose(facts, make_machine(90), VLLM)
    assert isinstance(answer, NoChoice)
    assert words in answer.reason
    for generator in ("ChatGLMModel", "InternVLChatModel", "UltravoxModel", "Qwen2_5OmniModel", "NVLM_D", "MiniCPMV"):
        assert chosen(choose(make_facts(architecture=generator), make_machine(90), VLLM))[0] is VLLM


def test_vectors_by_vllm_are_those_of_models_that_were_tried(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    def objection(name: str, pooling: str, task: Task = Task.EMBEDDING, width: int = 64, **more: Any) -> str:
        facts = dataclasses.replace(
            make_facts(architecture=name),
            task=task,
            pooling=pooling,
            layers=(LayerGroup(LayerKind.FULL, 6, kv_heads=8, k_dim=width, v_dim=width),),
            **more,
        )
        return judge(EngineType.VLLM, facts, make_machine(), Device.CPU).objection

    for name, pooling in (("BertModel", "Mean"), ("XLMRobertaModel", "CLS"), ("Qwen3ForCausalLM", "Last")):
        assert objection(name, pooling) == ""
    for name in ("BertForSequenceClassification", "XLMRobertaForSequenceClassification"):
        assert objection(name, "Rank", Task.RERANK) == ""
    assert "do not say how" in objection("BertModel", "")
    assert "a part Dense" in objection("BertModel", "Mean", unpooled="modules.json has a part Dense.")
    assert "pooled by Mean of Qwen3ForCausalLM are not tried" in objection("Qwen3ForCausalLM", "Mean")
    assert "scores of Qwen3ForSequenceClassification" in objection(
        "Qwen3ForSequenceClassification", "Rank", Task.RERANK
    )
    assert "heads of 16 numbers" in objection("BertModel", "Mean", width=16)


def test_a_configuration_that_is_code_is_refused(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    own = choose(make_facts(model_type="foo_lm", remote_code=True), make_machine(90))
    assert isinstance(own, NoChoice)
    assert "the configuration of foo_lm is code of the repository" in own.reason
    assert any("classes of Transformers' own" in way for way in own.ways_out)
    for known in ("llama", "chatglm"):
        assert isinstance(choose(make_facts(model_type=known, remote_code=True), make_machine(90)), Choice)


@pytest.mark.parametrize(
    ("architecture", "model_type", "engine"),
    [
        ("T5ForConditionalGeneration", "t5", None),
        ("BartForConditionalGeneration", "bart", None),
        ("T5GemmaForConditionalGeneration", "t5gemma", None),
        ("BartForCausalLM", "bart", TF),  # its decoder alone
        ("CodeGenForCausalLM", "codegen", TF),
        ("Qwen2AudioForConditionalGeneration", "qwen2_audio", VLLM),  # among T5's kind in Transformers' tables
    ],
)
def test_models_with_an_encoder_are_refused(
    make_facts: MakeFacts, make_machine: MakeMachine, architecture: str, model_type: str, engine: EngineType | None
) -> None:
    answer = choose(make_facts(architecture=architecture, model_type=model_type), make_machine(90))
    assert (answer.engine if isinstance(answer, Choice) else None) is engine
    if isinstance(answer, NoChoice):
        assert f"{architecture} has an encoder" in why_not(answer, TF)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [("t5", "t5 has an encoder"), ("llada-moe", "llada-moe is a diffusion model"), ("qwen3", "")],
)
def test_gguf_models_that_do_not_write_from_left_to_right_are_refused(
    make_facts: MakeFacts, make_machine: MakeMachine, architecture: str, words: str
) -> None:
    answer = choose(make_facts("gguf", ModelFormat.GGUF, architecture=architecture), make_machine(90))
    assert isinstance(answer, NoChoice) is bool(words)
    assert not isinstance(answer, NoChoice) or words in answer.reason


def test_blocks_of_fp8_have_dynamic_activations_in_vllm(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    for scheme in ("block 128x128, dynamic", "block 128x128, static", "per tensor, static"):
        answer = choose(make_facts("fp8", bits=8.0, scheme=scheme, dtype="F8_E4M3"), make_machine(90), VLLM)
        assert isinstance(answer, NoChoice) is (scheme == "block 128x128, static")


def test_not_installed_is_not_the_same_as_unable(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    builds = (
        EngineBuild(TF, frozenset({Device.CPU}), installed=False, install="Use a GGUF instead."),
        EngineBuild(LLAMA, frozenset({Device.CPU})),
    )
    answer = choose(make_facts(), make_machine(builds=builds))
    assert isinstance(answer, Choice)
    assert (answer.engine, answer.missing) == (TF, "Use a GGUF instead.")
    assert "not part of this release" in why_not(answer, VLLM)


def test_an_engine_that_is_not_installed_is_no_way_out(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    builds = (
        EngineBuild(TF, frozenset({Device.CPU}), installed=False, install="Use a GGUF instead."),
        EngineBuild(EngineType.VLLM, frozenset({Device.NVIDIA})),
    )
    answer = choose(make_facts(), make_machine(builds=builds), EngineType.VLLM, None)
    assert isinstance(answer, NoChoice)
    assert answer.ways_out and not answer.instead
    assert why_not(answer, TF).endswith("Use a GGUF instead.")


def test_a_gpu_that_the_build_cannot_use_is_explained(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    machine = make_machine(90, builds=(EngineBuild(LLAMA, frozenset({Device.CPU})),))
    facts = make_facts("gguf", ModelFormat.GGUF, name="Q4_K_M")
    answer = choose(facts, machine)
    assert chosen(answer) == (LLAMA, Device.CPU)
    assert isinstance(answer, Choice)
    assert any("GPU is not used" in note and "built" not in note and "CPU only" in note for note in answer.notes)
    asked = choose(facts, machine, gpus=1)
    assert isinstance(asked, NoChoice)
    assert any("accelerator.count" in way for way in asked.ways_out)


def test_a_gpu_for_which_there_is_another_build_is_offered_it(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    way = "A build for it: llmservice install llamacpp --device vulkan"
    builds = (EngineBuild(LLAMA, frozenset({Device.CPU}), gpu_builds={Device.NVIDIA: way}),)
    answer = choose(make_facts("gguf", ModelFormat.GGUF, name="Q4_K_M"), make_machine(90, builds=builds))
    assert isinstance(answer, Choice) and answer.device is Device.CPU
    (said,) = [note for note in answer.notes if "GPU is not used" in note]
    assert "at the CPU's speed" in said and said.endswith(way)
    kept = choose(make_facts("gguf", ModelFormat.GGUF, name="Q4_K_M"), make_machine(90, builds=builds), gpus=0)
    assert isinstance(kept, Choice) and not any(way in note for note in kept.notes)


def test_a_gpu_that_is_not_there_is_not_planned(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    answer = choose(make_facts(), make_machine(), gpus=2)
    assert isinstance(answer, NoChoice)
    assert "no GPU" in answer.reason


def test_cpu_only_is_honoured(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    answer = choose(make_facts(), make_machine(90), gpus=0)
    assert chosen(answer) == (TF, Device.CPU)


def test_code_of_the_repository_is_mentioned(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    answer = choose(make_facts(remote_code=True), make_machine(80))
    assert isinstance(answer, Choice)
    assert any("auto_map" in note for note in answer.notes)


@pytest.mark.parametrize("engine", [None, VLLM, TF])
def test_an_architecture_that_no_engine_has_is_refused_with_a_way_out(
    make_facts: MakeFacts, make_machine: MakeMachine, engine: EngineType | None
) -> None:
    answer = choose(make_facts(architecture="FooBarForCausalLM"), make_machine(90), engine)
    assert isinstance(answer, NoChoice)
    assert "does not know the architecture FooBarForCausalLM" in why_not(answer, VLLM)
    assert "does not know the architecture FooBarForCausalLM" in why_not(answer, TF)
    assert any("GGUF" in way for way in answer.ways_out)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "T5ForConditionalGeneration", "model_type": "t5", "encoder": True},
        {"architecture": "LLaDAModelLM", "model_type": "llada"},
    ],
)
def test_a_gguf_is_no_way_out_where_that_would_not_run(
    make_facts: MakeFacts, make_machine: MakeMachine, changes: dict[str, Any]
) -> None:
    answer = choose(dataclasses.replace(make_facts(), **changes), make_machine(90))
    assert isinstance(answer, NoChoice)
    assert "would not run either" in why_not(answer, LLAMA)
    assert not any("GGUF" in way for way in answer.ways_out)
    assert ("decoder alone" if changes.get("encoder") else "another model") in answer.ways_out[0]


def test_an_architecture_that_llama_cpp_lacks_is_refused_with_a_way_out(
    make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    answer = choose(make_facts("gguf", ModelFormat.GGUF, architecture="foobar"), make_machine(90))
    assert isinstance(answer, NoChoice)
    assert "does not know the architecture foobar" in why_not(answer, LLAMA)
    assert any("original weights" in way for way in answer.ways_out)


def test_what_vllm_dropped_says_since_when(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    answer = choose(make_facts(architecture="BaichuanForCausalLM"), make_machine(90), VLLM)
    assert isinstance(answer, NoChoice)
    assert "up to version 0.23.0" in answer.reason


@pytest.mark.parametrize(
    "name",
    [
        "Dots1ForCausalLM",
        "PersimmonForCausalLM",
        "FuyuForCausalLM",
        "AyaVisionForConditionalGeneration",
        "Gemma4UnifiedForCausalLM",  # vLLM has Gemma4UnifiedForConditionalGeneration, and tries Transformers' first
    ],
)
def test_what_vllm_dropped_and_transformers_lends_runs_there(
    make_facts: MakeFacts, make_machine: MakeMachine, name: str
) -> None:
    answer = choose(make_facts(architecture=name), make_machine(90))
    assert chosen(answer)[0] is VLLM
    assert isinstance(answer, Choice)
    assert f"no code of its own for the architecture {name}" in " ".join(answer.notes)


@pytest.mark.parametrize(
    "name",
    [
        "MllamaForConditionalGeneration",  # attends to pictures in its layers
        "IdeficsForVisionText2Text",  # two attentions with one number
        "ZayaForCausalLM",  # a state beside attention
        "RecurrentGemmaForCausalLM",
        "T5Gemma2ForConditionalGeneration",  # an encoder
        "Idefics2ForConditionalGeneration",  # pictures that its processor does not count
        "PerceptionLMForConditionalGeneration",  # a package that vLLM does not come with
    ],
)
def test_what_vllms_layers_are_not_is_not_lent(make_facts: MakeFacts, make_machine: MakeMachine, name: str) -> None:
    answer = choose(make_facts(architecture=name), make_machine(90), VLLM)
    assert isinstance(answer, NoChoice)


def test_what_another_engine_still_has_goes_there(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    answer = choose(make_facts(architecture="BartForSequenceClassification"), make_machine())
    assert chosen(answer)[0] is TF


@pytest.mark.parametrize(
    ("kind", "engine", "other"), [("axial", TF, VLLM), ("ntk", VLLM, TF), ("telechat3-yarn", VLLM, TF)]
)
def test_a_type_of_rope_that_one_engine_has_goes_there(
    make_facts: MakeFacts, make_machine: MakeMachine, kind: str, engine: EngineType, other: EngineType
) -> None:
    facts = dataclasses.replace(make_facts(), rope_types=("default", kind))
    answer = choose(facts, make_machine(80))
    assert chosen(answer)[0] is engine
    asked = choose(facts, make_machine(80), other)
    assert isinstance(asked, NoChoice) and f"no RoPE of the type {kind}." in why_not(asked, other)
    assert why_not(asked, engine).startswith("it would run")


@pytest.mark.parametrize("kind", ["su", "mrope", "xdrope", "yarn", "llama3", "longrope"])
def test_types_of_rope_that_both_have(make_facts: MakeFacts, make_machine: MakeMachine, kind: str) -> None:
    facts = dataclasses.replace(make_facts(), rope_types=(kind,))
    for engine in (VLLM, TF):
        assert chosen(choose(facts, make_machine(80), engine))[0] is engine


@pytest.mark.parametrize(
    ("method", "capability", "said"),
    [("fp8", 80, "unpack"), ("fp8", 0, "unpack"), ("modelopt_fp4", 100, "only makes"), ("modelopt", 90, "no loader")],
)
def test_transformers_is_asked_what_it_does_with_the_weights(
    make_facts: MakeFacts, make_machine: MakeMachine, method: str, capability: int, said: str
) -> None:
    answer = choose(make_facts(method, bits=8.0), make_machine(capability), TF)
    assert isinstance(answer, NoChoice)
    assert said in answer.reason


def test_what_vllm_runs_by_transformers_code_is_said(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    answer = choose(make_facts(architecture="HeliumForCausalLM"), make_machine(90))
    assert isinstance(answer, Choice)
    assert answer.engine is VLLM
    assert any("no code of its own for the architecture" in note for note in answer.notes)


@pytest.mark.parametrize("architecture", ["RecurrentGemmaForCausalLM", "DiffLlamaForCausalLM"])
def test_layers_that_do_not_hand_their_attention_on_are_transformers_own(
    make_facts: MakeFacts, make_machine: MakeMachine, architecture: str
) -> None:
    """vLLM 0.32 takes the code, and refuses such layers when the load has begun."""
    answer = choose(make_facts(architecture=architecture), make_machine(90))
    assert chosen(answer)[0] is TF
    assert architecture in why_not(answer, VLLM)


@pytest.mark.parametrize(("algorithm", "runs"), [("FP8", True), ("W4A8_AWQ", False), ("W4A16_AWQ", False)])
def test_vllm_reads_the_algorithms_of_modelopt_that_it_has(
    make_facts: MakeFacts, make_machine: MakeMachine, algorithm: str, runs: bool
) -> None:
    answer = choose(make_facts("modelopt", scheme=algorithm), make_machine(90), VLLM)
    assert isinstance(answer, Choice) is runs
    assert runs or (isinstance(answer, NoChoice) and algorithm in answer.reason)


@pytest.mark.parametrize(
    ("method", "stated", "runs"),
    [
        ("modelopt", "quantization.quant_algo=FP8", True),
        ("modelopt_fp4", "quantization.quant_algo=NVFP4", True),
        # vLLM 0.32 reads these in config.json only, not in a file of its own
        ("modelopt_mixed", "quantization.quant_algo=MIXED_PRECISION", False),
        ("mxfp8", "quantization.quant_algo=MXFP8", False),
        ("modelopt_mixed", "quantized_layers.quant_algo=W4A8_AWQ", False),
        ("modelopt_mixed", "quantized_layers.quant_algo=NVFP4", True),
        ("fp8", "activation_scheme=dynamic", True),
        ("fp8", "activation_scheme=magic", False),
        ("gptq", "group_size=128", True),
        ("gptq", "group_size=100", False),
        ("auto-round", "packing_format=auto_round:auto_gptq", True),
        ("auto-round", "packing_format=auto_round:mine", False),
        ("inc", "bits=9", False),
        ("compressed-tensors", "format=pack-quantized", True),
        ("compressed-tensors", "format=my-format", False),
        ("compressed-tensors", "strategy=row", False),
        ("compressed-tensors", "type=complex", False),
        ("compressed-tensors", "pack-quantized.num_bits=1", False),
    ],
)
def test_words_of_a_quantization_are_those_that_vllm_has(
    make_facts: MakeFacts, make_machine: MakeMachine, method: str, stated: str, runs: bool
) -> None:
    facts = make_facts(method)
    assert facts.quantization is not None
    facts = dataclasses.replace(facts, quantization=dataclasses.replace(facts.quantization, stated=(stated,)))
    answer = choose(facts, make_machine(90), VLLM)
    assert isinstance(answer, Choice) is runs
    assert runs or (isinstance(answer, NoChoice) and stated.partition("=")[2] in answer.reason)


def test_bitsandbytes_has_two_types(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    assert chosen(choose(make_facts("bitsandbytes", scheme="nf4"), make_machine(90)))[0] is TF
    answer = choose(make_facts("bitsandbytes", scheme="int3"), make_machine(90))
    assert isinstance(answer, NoChoice)
    assert "'int3'" in why_not(answer, TF)


def test_a_strangers_architecture_writes_nothing_but_letters(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    answer = choose(make_facts(architecture="\x1b]0;pwned\x07Evil\nFake" + 100 * "x"), make_machine(90))
    assert isinstance(answer, NoChoice)
    said = [answer.reason, *answer.ways_out, *(rejected.reason for rejected in answer.rejected)]
    assert all(sentence.isprintable() and len(sentence) < 300 for sentence in said)
    assert "Evil Fake" in why_not(answer, VLLM)


@pytest.mark.parametrize("architecture", ["BertLMHeadModel", "RobertaForCausalLM", "ElectraForCausalLM"])
def test_an_encoder_that_is_named_like_a_writer_writes_where_it_says_so(
    make_facts: MakeFacts, make_machine: MakeMachine, architecture: str
) -> None:
    """Transformers warns and reads in both directions; vLLM keeps nothing of its layers, or has its vectors."""
    facts = dataclasses.replace(make_facts(architecture=architecture), model_type="bert")
    refused = choose(facts, make_machine(90))
    assert isinstance(refused, NoChoice)
    assert "is_decoder: true" in why_not(refused, TF)
    assert chosen(choose(dataclasses.replace(facts, decoder=True), make_machine(90)))[0] is TF


def test_the_language_model_of_one_that_sees_is_not_that_one(make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    """vLLM takes Emu3ForCausalLM for Emu3ForConditionalGeneration, and then fails for want of an image processor."""
    facts = dataclasses.replace(make_facts(architecture="Emu3ForCausalLM"), model_type="emu3")
    answer = choose(facts, make_machine(90))
    assert chosen(answer)[0] is TF
    assert "as Emu3ForConditionalGeneration only" in why_not(answer, VLLM)


@pytest.mark.parametrize(("second", "engine"), [(LayerKind.SLIDING, TF), (LayerKind.FULL, VLLM)])
def test_a_window_in_some_layers_of_qwen_is_not_vllm_s(
    make_facts: MakeFacts, make_machine: MakeMachine, second: LayerKind, engine: EngineType
) -> None:
    """Its own assertion (qwen2.py): "Sliding window for some but all layers is not supported"."""
    layers = (LayerGroup(LayerKind.FULL, 3, 4, 128, 128), LayerGroup(second, 25, 4, 128, 128, window=512))
    facts = dataclasses.replace(make_facts(architecture="Qwen2ForCausalLM"), model_type="qwen2", layers=layers)
    assert chosen(choose(facts, make_machine(90)))[0] is engine
