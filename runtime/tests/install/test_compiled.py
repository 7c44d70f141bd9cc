"""What an engine compiles is found again by the next start, and by nobody whom it would not suit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines import registry
from llmservice_runtime.engines.base.caches import cache_key
from llmservice_runtime.install.compiled import compiled

TORCH = ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_HOME", "NUMBA_CACHE_DIR", "HF_HOME", "TORCH_HOME")


def settings(engine: EngineType, folder: Path | str) -> RuntimeSettings:
    return RuntimeSettings(engine=engine, model_path="/m", model_name="m", compiled=str(folder))


def environment(tmp_path: Path, **stamp: str) -> dict[str, str]:
    """Of a process whose engines stand in tmp_path."""
    folder = tmp_path / "engines" / "vllm"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.json").write_text(json.dumps({"lock": "a", "runtime": str(tmp_path), **stamp}))
    return {"LLMSERVICE_ENGINES_DIR": str(tmp_path / "engines"), "USER": "somebody"}


@pytest.mark.parametrize("engine", [EngineType.VLLM, EngineType.TRANSFORMERS])
def test_every_cache_of_a_torch_engine_lies_below_the_folder(engine: EngineType, tmp_path: Path) -> None:
    found = compiled(settings(engine, tmp_path / "kept"), {"USER": "somebody"})
    assert set(TORCH) <= set(found) == set(registry.definition(engine).caches)
    assert all(Path(path).is_relative_to(tmp_path / "kept" / engine.folder) for path in found.values())
    assert len(set(found.values())) == len(found)


def test_the_next_start_finds_it_and_another_environment_or_cpu_does_not(tmp_path: Path) -> None:
    wanted = settings(EngineType.VLLM, tmp_path / "kept")
    first = compiled(wanted, environment(tmp_path))
    assert compiled(wanted, environment(tmp_path, runtime="/elsewhere")) == first
    assert compiled(wanted, environment(tmp_path, lock="b"))["VLLM_CACHE_ROOT"] != first["VLLM_CACHE_ROOT"]
    assert cache_key("a", ("avx2", "fma")) == cache_key("a", ("fma", "avx2")) != cache_key("a", ("avx2",))


def test_what_the_environment_says_already_stays(tmp_path: Path) -> None:
    found = compiled(settings(EngineType.VLLM, tmp_path), {"HF_HOME": "/hub", "LOGNAME": "me"})
    assert "HF_HOME" not in found and "USER" not in found and "VLLM_CACHE_ROOT" in found


def test_a_user_without_a_name_gets_one(tmp_path: Path) -> None:
    assert compiled(settings(EngineType.VLLM, tmp_path), {})["USER"] == f"user{os.getuid()}"


def test_a_folder_that_can_not_be_written_is_said_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert compiled(settings(EngineType.VLLM, tmp_path / "file"), {"USER": "somebody"}) == {}
    assert "what the engine compiles is not kept" in capsys.readouterr().err


def test_nothing_is_set_where_nothing_is_to_be_kept(tmp_path: Path) -> None:
    assert compiled(settings(EngineType.VLLM, ""), {}) == {}
    assert registry.definition(EngineType.LLAMA_CPP).caches == {}
