"""A start imports what it needs at each moment, and nothing else: imports are most of the time to ready."""

from __future__ import annotations

import subprocess
import sys

import pytest

LEAN = """
from llmservice_runtime.engines.llamacpp.serve.lean import import_llama_cpp
import_llama_cpp()
import llama_cpp, llmservice_runtime.engines.llamacpp.serve.process
from llguidance import llamacpp
assert llama_cpp.llama_cpp._lib and llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
"""


def imported(code: str) -> set[str]:
    """Modules in a fresh interpreter that ran `code`."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    "module", ["llmservice_runtime.supervisor.serve", "llmservice_runtime.engines.llamacpp.serve.__main__"]
)
def test_the_web_stack_comes_after_the_engine_and_the_load_began(module: str) -> None:
    assert not imported(f"import {module}") & {"aiohttp", "pydantic", "jinja2", "numpy", "llama_cpp"}


def test_a_supervisor_starts_without_what_plans_an_engine() -> None:
    modules = imported("import llmservice_runtime.supervisor.serve, llmservice_runtime.install.environment")
    assert "llmservice_runtime.engines.registry" in modules
    assert not [name for name in modules if name.endswith(".definition") or "llmservice_runtime.estimate" in name]


def test_what_plans_every_engine_imports_none() -> None:
    modules = imported(
        "from llmservice_runtime.engines.registry import EngineType, definition\nlist(map(definition, EngineType))"
    )
    assert "llmservice_runtime.engines.vllm.definition" in modules
    assert not modules & {"vllm", "transformers", "torch", "llama_cpp", "numpy", "aiohttp", "pydantic"}


def test_the_engine_has_llama_cpp_without_its_high_level_api() -> None:
    modules = imported(LEAN)
    assert "llama_cpp.llama_cpp" in modules
    assert not modules & {"llama_cpp.llama", "jinja2", "diskcache"}


def test_a_whole_llama_cpp_stays_whole() -> None:
    assert "llama_cpp.llama" in imported(f"import llama_cpp{LEAN}assert llama_cpp.Llama")
