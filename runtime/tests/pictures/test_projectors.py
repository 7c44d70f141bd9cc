"""Which file beside a GGUF sees pictures for it, and what of it is planned."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from llmservice_runtime.engines.llamacpp.definition import ENGINE
from llmservice_runtime.engines.llamacpp.memory import LlamaMemory, picture_lines
from llmservice_runtime.engines.llamacpp.options import LlamaOptions
from llmservice_runtime.estimate.budget import HOST
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.prepare.report import Prepared
from llmservice_runtime.sources.local import LocalFiles
from llmservice_runtime.sources.uri import parse_uri

from .seeing import DEMO, HIDDEN, PATCH, SIDE, WIDTH, llava_folder, llava_projector, projector


def facts(path: Path, *include: str) -> ModelFacts:
    return inspect_model(LocalFiles(parse_uri(f"file://{path}", path), None), include)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(DEMO / "demo-Q4_K_M.gguf", tmp_path)
    return tmp_path


def test_it_is_found_beside_the_model(folder: Path) -> None:
    file = llava_projector(folder / "mmproj-demo-f32.gguf")
    for found in (facts(folder), facts(folder, "*q4_k_m*"), facts(folder / "demo-Q4_K_M.gguf")):
        assert found.vision is not None and found.vision.file == file.name
        assert (found.vision.kind, found.vision.image_size, found.vision.patch_size) == ("mlp", SIDE, PATCH)
        assert (found.vision.hidden_size, found.vision.feed_forward) == (WIDTH, HIDDEN)
        assert 0 < file.stat().st_size - found.vision.weight_bytes < 20_000
        assert found.files == ("demo-Q4_K_M.gguf", file.name)
        assert found.file_bytes == sum((folder / name).stat().st_size for name in found.files)
        assert not found.notes
    assert Prepared.from_json(Prepared(found, "", "/x").to_json()) == Prepared(found, "", "/x")


def test_of_several_versions_one_is_taken(folder: Path) -> None:
    for name in ("mmproj-demo-F32.gguf", "mmproj-demo-Q8_0.gguf", "mmproj-demo-F16.gguf", "mmproj-demo-BF16.gguf"):
        llava_projector(folder / name)
    found = facts(folder)
    assert found.vision is not None and found.vision.file == "mmproj-demo-F16.gguf"
    assert "mmproj-demo-F32.gguf lies beside the model and is not loaded." in found.notes
    chosen = facts(folder, "*q4_k_m.gguf", "mmproj*q8_0*")
    assert chosen.vision is not None and chosen.vision.file == "mmproj-demo-Q8_0.gguf"


def test_what_sees_nothing_or_is_another_models_is_left_with_a_note(folder: Path) -> None:
    projector(folder / "mmproj-other.gguf", {"mm.2.weight": np.zeros((2560, 64), np.float32)})
    llava_projector(folder / "mmproj-sound.gguf", **{"clip.has_vision_encoder": False, "clip.has_audio_encoder": True})
    found = facts(folder)
    assert found.vision is None and found.files == ("demo-Q4_K_M.gguf",)
    assert any("another model (of width 2560; this one has 256)" in note for note in found.notes), found.notes
    assert any("sees no pictures" in note for note in found.notes)


def test_a_model_alone_sees_nothing(folder: Path) -> None:
    assert facts(folder).vision is None


def test_an_argument_leaves_it_out(folder: Path) -> None:
    llava_projector(folder / "mmproj-demo.gguf")
    found = facts(folder)
    for args, tokens in ((), 1024), (("--image-max-tokens=64",), 64), (("--no-mmproj",), 0):
        memory = ENGINE.memory(args)
        assert isinstance(memory, LlamaMemory) and memory._options.image_tokens == tokens
    with pytest.raises(Exception, match="found beside the model"):
        ENGINE.memory(("--mmproj=x.gguf",))
    assert found.vision is not None
    weights, pictures = picture_lines(found.vision, LlamaOptions(), HOST, 0)
    assert weights.bytes == found.vision.weight_bytes and weights.part == "Weights" and pictures.part == "Engine"
    wide = dataclasses.replace(found.vision, kind="qwen2vl_merger", merge=2)
    few, many = (picture_lines(wide, LlamaOptions(image_tokens=n), HOST, 0)[1].bytes for n in (1024, 4096))
    assert few < many


def test_a_folder_for_vllm_tells_what_sees(tmp_path: Path) -> None:
    found = facts(llava_folder(tmp_path)).vision
    assert found is not None and found.file == "" and found.kind == "clip_vision_model"
    assert (found.image_size, found.patch_size, found.hidden_size) == (SIDE, PATCH, WIDTH)
