"""How weights are loaded: made smaller by engine.loadQuantization, with code of the repository by trustRemoteCode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from answers import planned, refused  # type: ignore[import-not-found]

from llmservice_api.v1alpha1 import LLMService, LLMServiceSpec, LoadQuantization
from llmservice_planning.plan import Plan
from llmservice_planning.planner import make_plan
from llmservice_planning.to_settings import runtime_settings
from llmservice_runtime.contract.bounds import LOAD_QUANTIZATIONS
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.formats.facts import ModelFacts, Quantization, Width, WidthKind
from llmservice_runtime.machine.machine import Machine

MakeFacts = Callable[..., ModelFacts]
MakeMachine = Callable[..., Machine]
MakeSpec = Callable[..., LLMServiceSpec]
LAYERS = (7_000_000_000 * 2 // 32,) * 32
"""Of the 8 B parameters 7 B are in layers."""


def weights(plan: Plan) -> int:
    return sum(line.bytes for line in plan.memory if line.name == "weights")


def converts(to: str, **engine: object) -> dict[str, object]:
    return {"loadQuantization": to, **engine}


def test_the_field_has_the_values_of_the_runtime() -> None:
    assert tuple(LoadQuantization) == LOAD_QUANTIZATIONS


@pytest.mark.parametrize(("to", "width"), [("BitsAndBytesInt8", 1.0), ("BitsAndBytesNF4", 0.5625)])
def test_on_a_cpu_transformers_makes_linear_layers_smaller(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine, to: str, width: float
) -> None:
    facts = make_facts(layer_weight_bytes=LAYERS)
    spec = make_spec(engine=converts(to))
    plan = planned(make_plan(spec, facts, make_machine(64), "abc"))
    assert plan.engine is EngineType.TRANSFORMERS and f"made {to} while loading" in plan.reason
    wanted = 7e9 * width + (facts.weight_bytes - sum(LAYERS))
    assert weights(plan) == pytest.approx(wanted, rel=0.03)
    service = LLMService.model_validate({"metadata": {"name": "x"}, "spec": spec})
    settings = runtime_settings(plan, service, "/models/x", facts)
    assert settings.load_quantization == to
    assert RuntimeSettings.from_json(settings.to_json()) == settings


def test_experts_are_no_linear_layers_to_bitsandbytes(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    experts = make_facts(
        layer_weight_bytes=LAYERS,
        mixture_experts=8,
        widths=(Width("moe_intermediate_size", 2048, WidthKind.EXPERT),),
        model_type="mixtral",
    )
    plan = planned(make_plan(make_spec(engine=converts("BitsAndBytesNF4")), experts, make_machine(64), ""))
    expert_bytes = 2 * 3 * 8 * 2048 * 4096 * 32
    assert weights(plan) > expert_bytes


def test_fp8_on_a_gpu_is_vllm_and_half_of_the_weights(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    plan = planned(make_plan(make_spec(engine=converts("FP8")), make_facts(), make_machine(kind="L4"), ""))
    assert plan.engine is EngineType.VLLM
    assert weights(plan) == pytest.approx(8.0e9 + 2 * 128256 * 4096, rel=0.05)
    asked = make_spec(engine=converts("FP8", type="Transformers"))
    assert planned(make_plan(asked, make_facts(), make_machine(kind="L4"), "")).engine is EngineType.TRANSFORMERS


@pytest.mark.parametrize(
    ("engine", "kind", "words", "way"),
    [
        ({"type": "VLLM", "loadQuantization": "BitsAndBytesNF4"}, "L4", "Transformers can", "to FP8"),
        ({"loadQuantization": "FP8"}, "", "on a GPU only", "to BitsAndBytesInt8"),
        ({"type": "Transformers", "loadQuantization": "FP8"}, "T4", "compute capability 8.9", "BitsAndBytesNF4"),
        ({"type": "VLLM", "loadQuantization": "FP8"}, "", "AMX", "Leave engine.loadQuantization out"),
    ],
)
def test_what_no_engine_or_device_can_make_is_refused_with_what_can(
    make_spec: MakeSpec,
    make_facts: MakeFacts,
    make_machine: MakeMachine,
    engine: dict[str, str],
    kind: str,
    words: str,
    way: str,
) -> None:
    facts, machine = make_facts(dtype="F16"), make_machine(kind=kind, count=2)
    answer = refused(make_plan(make_spec(engine=engine), facts, machine, ""))
    assert words in answer.reason
    assert (answer.field, answer.failure) == ("spec.engine.loadQuantization", FailureClass.BAD_ARGUMENT)
    assert any(way in one for one in answer.ways_out), answer.ways_out
    for value in LOAD_QUANTIZATIONS:  # what is offered leads to a plan
        if f"Set engine.loadQuantization to {value}." in answer.ways_out:
            planned(make_plan(make_spec(engine={**engine, "loadQuantization": value}), facts, machine, ""))
    left = {name: value for name, value in engine.items() if name != "loadQuantization"}
    planned(make_plan(make_spec(engine=left), facts, machine, ""))


@pytest.mark.parametrize("gguf", [True, False])
def test_weights_that_are_quantized_already_are_not_made_anything(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine, gguf: bool
) -> None:
    facts = make_facts(gguf=True) if gguf else make_facts(quantization=Quantization("awq", "AWQ 4-bit", 4))
    machine = make_machine(64) if gguf else make_machine(kind="L4")
    answer = refused(make_plan(make_spec(engine=converts("BitsAndBytesInt8")), facts, machine, ""))
    assert "quantized already" in answer.reason
    assert answer.field == "spec.engine.loadQuantization"
    assert answer.ways_out[0].startswith("Leave engine.loadQuantization out")


def test_llama_cpp_converts_nothing(make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    spec = make_spec(engine={"type": "LlamaCpp", "loadQuantization": "FP8"})
    answer = refused(make_plan(spec, make_facts(gguf=True, quantization=None), make_machine(64), ""))
    assert "llama.cpp can't make weights FP8 while loading them; vLLM and Transformers can" in answer.reason


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--quantization=fp8_per_channel"], "engine.loadQuantization (FP8)"),
        (["--dtype=float32"], "FP8 is computed in 16 bits"),
        (["--load-format=bitsandbytes"], "--load-format=bitsandbytes"),
        (["--trust-remote-code"], "model.trustRemoteCode says"),
    ],
)
def test_arguments_that_say_the_same_anew_are_refused(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine, args: list[str], words: str
) -> None:
    spec = make_spec(engine=converts("FP8", args=args))
    answer = refused(make_plan(spec, make_facts(), make_machine(kind="L4"), ""))
    assert words in answer.reason and answer.field == "spec.engine.args"


def test_what_is_too_large_is_made_smaller_as_a_way_out(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    answer = refused(make_plan(make_spec(contextTokens=2048), make_facts(), make_machine(14), ""))
    way = next(way for way in answer.ways_out if "loadQuantization" in way)
    to = way.split("engine.loadQuantization to ")[1].split(":")[0]
    planned(make_plan(make_spec(contextTokens=2048, engine=converts(to)), make_facts(), make_machine(14), ""))


def own(make_facts: MakeFacts, **changes: object) -> ModelFacts:
    return make_facts(architecture="OwnForCausalLM", model_type="own", remote_code=True, **changes)


def test_code_of_the_repository_runs_where_the_spec_says_so(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    facts = own(make_facts)
    answer = refused(make_plan(make_spec(), facts, make_machine(64), ""))
    assert any(way.startswith("Set model.trustRemoteCode to true") for way in answer.ways_out)
    spec = make_spec(model={"uri": "file://m", "trustRemoteCode": True})
    plan = planned(make_plan(spec, facts, make_machine(64), ""))
    assert plan.engine is EngineType.TRANSFORMERS
    assert any("which is run, as model.trustRemoteCode says" in note for note in plan.notes)
    service = LLMService.model_validate({"metadata": {"name": "x"}, "spec": spec})
    assert runtime_settings(plan, service, "/models/x", facts).trust_remote_code


def test_a_gguf_brings_no_code(make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine) -> None:
    spec, facts = make_spec(model={"uri": "file://m", "trustRemoteCode": True}), make_facts(gguf=True)
    plan = planned(make_plan(spec, facts, make_machine(64), ""))
    assert any("model.trustRemoteCode changes nothing" in note for note in plan.notes)
    service = LLMService.model_validate({"metadata": {"name": "x"}, "spec": spec})
    assert not runtime_settings(plan, service, "/models/x.gguf", facts).trust_remote_code


def test_the_argument_can_not_take_back_what_the_field_says(
    make_spec: MakeSpec, make_facts: MakeFacts, make_machine: MakeMachine
) -> None:
    engine = {"args": ["--no-trust-remote-code"]}
    plain = make_plan(make_spec(engine=engine), make_facts(), make_machine(kind="L4"), "")
    planned(plain)
    trusting = make_spec(engine=engine, model={"uri": "file://m", "trustRemoteCode": True})
    assert "contradicts the plan" in refused(make_plan(trusting, make_facts(), make_machine(kind="L4"), "")).reason
