"""Models that the real vLLM would take, or end over without a word that helps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from every_engine.engines import FOLDER  # type: ignore[import-not-found]
from every_engine.replica import LOAD_SECONDS, Replica  # type: ignore[import-not-found]

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.whole import check_files

WEIGHTS, TENSOR = "model.safetensors", "model.layers.0.mlp.down_proj.weight"
NO_NUMBER = b"\xc0\x7f"
"""A bf16."""
Change = Callable[[dict[str, Any], bytearray], None]


def no_numbers(header: dict[str, Any], data: bytearray) -> None:
    begin, end = header[TENSOR]["data_offsets"]
    data[begin:end] = NO_NUMBER * ((end - begin) // len(NO_NUMBER))


def turned(header: dict[str, Any], _: bytearray) -> None:
    header[TENSOR]["shape"].reverse()


def changed(folder: Path, change: Change) -> Path:
    """A copy of the demo model with other weights."""
    copy = folder / "model"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("*.gguf"))
    raw = (copy / WEIGHTS).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + size]), bytearray(raw[8 + size :])
    change(header, data)
    text = json.dumps(header).encode()
    (copy / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data)
    return copy


@pytest.mark.vllm
@pytest.mark.usefixtures("vllm_installed")
@pytest.mark.parametrize(
    ("change", "failure", "said"),
    [(no_numbers, "SelfTestFailed", "no numbers"), (turned, "ModelDamaged", TENSOR.removeprefix("model."))],
)
def test_weights_that_are_not_the_models_fail_its_load(tmp_path: Path, change: Change, failure: str, said: str) -> None:
    replica = Replica(tmp_path / "replica", EngineType.VLLM, model_path=str(changed(tmp_path, change)))
    try:
        assert replica.process.wait(LOAD_SECONDS) == 1, replica.log.read_text()[-4000:]
        record = replica.record
        assert record["failure"] == failure and said in record["message"] and record["remedy"], record
    finally:
        replica.stop()


def cut(folder: Path, name: str, data: bytes) -> Path:
    copy = changed(folder, lambda *_: None)
    (copy / name).write_bytes(data)
    return copy


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (WEIGHTS, b"\xff" * 1000),
        (WEIGHTS, (2).to_bytes(8, "little") + b"{}" + bytes(100)),
        (WEIGHTS, (4).to_bytes(8, "little") + b"\xff" * 100),
        ("tokenizer.json", b'{"version": "1.0", "model": {'),
        ("config.json", b"\xff"),
    ],
)
def test_files_that_are_not_what_their_names_say_are_found_before_vllm_starts(
    tmp_path: Path, name: str, data: bytes
) -> None:
    with pytest.raises(UserError, match=name) as told:
        check_files(cut(tmp_path, name, data))
    assert told.value.failure is FailureClass.MODEL_DAMAGED and told.value.remedy


def test_files_that_were_not_planned_with_are_not_looked_at(tmp_path: Path) -> None:
    copy = cut(tmp_path, "consolidated.safetensors", b"")
    check_files(copy, [WEIGHTS, "config.json"])
    with pytest.raises(UserError, match="consolidated"):
        check_files(copy)
