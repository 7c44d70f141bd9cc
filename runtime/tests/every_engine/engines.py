"""The engines under test, and the demo model as a plan for this machine would serve it on each."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.models import resolve
from llmservice_cli.places import Places
from llmservice_planning.plan import Plan
from llmservice_planning.planner import make_plan
from llmservice_planning.to_settings import runtime_settings
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.estimate.adapters import AdapterRoom
from llmservice_runtime.machine.probe import read_machine

ENGINES = (EngineType.LLAMA_CPP, EngineType.TRANSFORMERS, EngineType.VLLM)
"""Each must be installed where this suite runs: what is missing fails."""

DEMO = Path(__file__).parents[2] / "demo"
FOLDER = DEMO / "model"
GGUF = FOLDER / "demo-Q4_K_M.gguf"
NAME, ALIAS, CONTEXT = "apps/demo", "demo", 2048


def files(engine: EngineType) -> Path:
    """What the engine reads: the GGUF, or the folder of safetensors beside it."""
    return GGUF if engine is EngineType.LLAMA_CPP else FOLDER


@cache
def planned(engine: EngineType, sequences: int, room: AdapterRoom = AdapterRoom()) -> RuntimeSettings:  # noqa: B008
    """Settings as the operator and `llmservice up` write them; so many sequences may run together."""
    return planned_of(files(engine), engine, sequences, room)


def planned_of(path: Path, engine: EngineType, sequences: int, room: AdapterRoom) -> RuntimeSettings:
    """The same of another model, under the demo's name."""
    args = [f"--max-num-seqs={sequences}"] if engine is EngineType.VLLM else []
    service = LLMService.model_validate(
        {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": ALIAS, "namespace": "apps"},
            "spec": {"model": {"uri": f"file://{path}"}, "engine": {"type": engine.value, "args": args}},
        }
    )
    model = resolve(service, DEMO, Places.from_environment())
    machine = read_machine()
    # What other tests take at this moment is no matter of the plan.
    machine = dataclasses.replace(machine, memory_available=machine.memory_bytes)
    plan = make_plan(service.spec, model.facts, machine, model.files.revision, room)
    assert isinstance(plan, Plan), plan
    return dataclasses.replace(runtime_settings(plan, service, str(path), model.facts), max_sequences=sequences)


def settings(engine: EngineType, max_sequences: int = 16, **changes: Any) -> RuntimeSettings:
    """The planned settings on free ports, with changes. One thread: several wait for each other in loops, and for long
    where other tests take their processors."""
    ours: dict[str, Any] = {"port": 0, "supervisor_port": 0, "drain_seconds": 60, "threads": 1}
    return dataclasses.replace(planned(engine, max_sequences), **ours | changes)
