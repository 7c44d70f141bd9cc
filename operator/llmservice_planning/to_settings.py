"""A plan becomes the settings of a runtime replica."""

from __future__ import annotations

from llmservice_api.v1alpha1 import LLMService
from llmservice_planning.plan import Plan
from llmservice_runtime.contract.memory import GPU, PlannedLine
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.estimate.budget import MemoryLine
from llmservice_runtime.formats.facts import ModelFacts, ModelFormat

LOAD_SECONDS = 600
PROGRESS_SECONDS = 60
MOST_FILES = 500
"""Names that settings carry."""
FIRST_OF_SEVERAL = "-00001-of-"
SLOWEST_READ = 50 << 20
"""Bytes per second at which weights are read from the slowest disk that is planned for."""


def runtime_settings(plan: Plan, service: LLMService, model_path: str, facts: ModelFacts) -> RuntimeSettings:
    """Settings for one replica, with the contract's ports; a local mode replaces those with free ones. `facts` are
    those that were planned with.

    `model_path` is absolute: a GGUF file (the first shard) or a model folder. The model answers to its full name
    (`namespace/name`) and to its bare name.
    """
    weights = sum(line.bytes for line in plan.memory if line.name.startswith("weights"))
    engine = service.spec.engine
    return RuntimeSettings(
        engine=plan.engine,
        model_path=model_path,
        model_name=service.full_name,
        model_aliases=(service.metadata.name,),
        task=plan.task,
        context_tokens=plan.context_tokens,
        max_sequences=plan.max_sequences,
        kv_tokens=plan.kv_tokens,
        max_queued_requests=service.spec.endpoint.max_queued_requests,
        drain_seconds=service.spec.endpoint.drain_seconds,
        load_seconds=engine.load_seconds or LOAD_SECONDS + weights // SLOWEST_READ,
        progress_seconds=engine.progress_seconds or PROGRESS_SECONDS,
        trust_remote_code=service.spec.model.trust_remote_code and facts.format is not ModelFormat.GGUF,
        load_quantization=engine.load_quantization.value if engine.load_quantization else "",
        engine_args=plan.args,
        planned_memory=tuple(_planned(line, plan) for line in plan.memory),
        planned_accelerator=plan.accelerator if plan.accelerator_count else "",
        planned_file_bytes=facts.file_bytes,
        planned_files=_all_files(facts),
        adapter_count=plan.adapters.count,
        adapter_rank=plan.adapters.rank,
        engine_env={variable.name: variable.value for variable in engine.env},
    )


def _planned(line: MemoryLine, plan: Plan) -> PlannedLine:
    """GPU lines of a plan are for each of them."""
    devices = plan.accelerator_count if line.where == GPU else 1
    return PlannedLine(line.name, line.part, line.where, line.bytes * devices)


def _all_files(facts: ModelFacts) -> tuple[str, ...]:
    """None where a report had no room for all of them: it keeps the first."""
    cut = len(facts.files) == 1 and FIRST_OF_SEVERAL in facts.files[0]
    return () if cut or len(facts.files) > MOST_FILES else facts.files
