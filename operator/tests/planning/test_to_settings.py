"""From a plan to what a runtime is started with."""

from __future__ import annotations

from collections.abc import Callable

from llmservice_api.v1alpha1 import LLMService, LLMServiceSpec
from llmservice_planning.plan import Plan
from llmservice_planning.planner import make_plan
from llmservice_planning.to_settings import runtime_settings
from llmservice_runtime.contract.memory import GPU, Part
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.estimate.budget import RESERVE
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Machine


def test_settings_carry_the_plan_and_the_service(
    make_spec: Callable[..., LLMServiceSpec],
    make_facts: Callable[..., ModelFacts],
    make_machine: Callable[..., Machine],
) -> None:
    spec = make_spec(
        contextTokens=2048,
        engine={"args": ["--mlock"], "env": [{"name": "A", "value": "b"}]},
        endpoint={"maxQueuedRequests": 7, "drainSeconds": 9},
    )
    service = LLMService.model_validate({"metadata": {"name": "qwen", "namespace": "apps"}, "spec": spec})
    facts = make_facts(gguf=True)
    plan = make_plan(service.spec, facts, make_machine(64), "abc")
    assert isinstance(plan, Plan)
    settings = runtime_settings(plan, service, "/models/x.gguf", facts)
    assert settings.model_name == "apps/qwen"
    assert settings.model_aliases == ("qwen",)
    assert (settings.context_tokens, settings.max_sequences, settings.kv_tokens) == (2048, 16, 16 * 2048)
    assert (settings.max_queued_requests, settings.drain_seconds) == (7, 9)
    assert settings.engine_args == ("--mlock",)
    assert settings.engine_env == {"A": "b"}
    assert settings.load_seconds > 600
    assert [(line.name, line.bytes) for line in settings.planned_memory] == [(m.name, m.bytes) for m in plan.memory]
    parts = {line.part: line for line in settings.planned_memory}
    assert parts.keys() == {Part.WEIGHTS, Part.CACHE, Part.ENGINE, Part.RESERVE}
    assert parts[Part.WEIGHTS].bytes >= facts.weight_bytes and parts[Part.RESERVE].name == RESERVE
    assert (settings.planned_file_bytes, settings.planned_files) == (facts.file_bytes, facts.files)
    assert settings.progress_seconds == 60 and settings.planned_accelerator == ""
    assert RuntimeSettings.from_json(settings.to_json()) == settings


def test_memory_of_gpus_is_that_of_all(
    make_spec: Callable[..., LLMServiceSpec],
    make_facts: Callable[..., ModelFacts],
    make_machine: Callable[..., Machine],
) -> None:
    spec = make_spec(count=2, engine={"type": "VLLM"})
    service = LLMService.model_validate({"metadata": {"name": "qwen"}, "spec": spec})
    facts = make_facts()
    plan = make_plan(service.spec, facts, make_machine(kind="L4", count=2), "abc")
    assert isinstance(plan, Plan), plan
    settings = runtime_settings(plan, service, "/models/x", facts)
    assert settings.planned_accelerator == "L4"
    weights = next(line for line in settings.planned_memory if line.part is Part.WEIGHTS)
    assert weights.where == GPU and weights.bytes == 2 * next(m.bytes for m in plan.memory if m.where == GPU)
    assert {line.part for line in settings.planned_memory} > {Part.CACHE, Part.SHARED, Part.ENGINE}


def test_who_needs_more_time_gets_it(
    make_spec: Callable[..., LLMServiceSpec],
    make_facts: Callable[..., ModelFacts],
    make_machine: Callable[..., Machine],
) -> None:
    spec = make_spec(engine={"loadSeconds": 3600, "progressSeconds": 300})
    service = LLMService.model_validate({"metadata": {"name": "qwen", "namespace": "apps"}, "spec": spec})
    facts = make_facts(gguf=True)
    plan = make_plan(service.spec, facts, make_machine(64), "abc")
    assert isinstance(plan, Plan)
    settings = runtime_settings(plan, service, "/models/x.gguf", facts)
    assert (settings.load_seconds, settings.progress_seconds) == (3600, 300)
