"""The prepare command: facts come back whole through 4 KiB; exit codes say if to try again."""

from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.cli import main
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Quantization, Task
from llmservice_runtime.prepare.report import Prepared
from llmservice_runtime.prepare.run import exit_code, make_compiled

DEMO = Path(__file__).parents[2] / "demo" / "model"
FACTS = ModelFacts(
    format=ModelFormat.SAFETENSORS,
    architecture="LlamaForCausalLM",
    model_type="llama",
    task=Task.CHAT,
    quantization=Quantization("awq", "AWQ 4-bit", 4.25, group_size=128),
    dtype="BF16",
    parameters=70_000_000_000,
    context_tokens=131072,
    layers=(LayerGroup(LayerKind.FULL, 80, 8, 128, 128), LayerGroup(LayerKind.RECURRENT, 2, state_bytes=4096)),
    hidden_size=8192,
    attention_heads=64,
    vocab_size=128256,
    weight_bytes=140_000_000_000,
    layer_weight_bytes=tuple(1_700_000_000 + 977 * n for n in range(80)),
    files=tuple(f"model-{n:05}-of-00191.safetensors" for n in range(1, 192)),
    file_bytes=140_000_001_000,
    has_chat_template=True,
    has_tokenizer=True,
    notes=("A note.",),
)


def test_a_large_model_comes_back_whole_through_a_termination_message() -> None:
    prepared = Prepared(FACTS, "a" * 40, "/cache/models/hf/x--y/" + "a" * 40)
    assert len(prepared.to_json().encode()) <= 4096
    assert Prepared.from_json(prepared.to_json()) == prepared


def test_what_compresses_badly_loses_what_a_plan_can_do_without() -> None:
    files = tuple(f"{hash((n, 'x')) & (2**64 - 1):016x}{n:032x}.bin" for n in range(800))
    prepared = Prepared(dataclasses.replace(FACTS, files=files), "a", "/model")
    again = Prepared.from_json(prepared.to_json())
    assert len(prepared.to_json().encode()) <= 4096
    assert again.facts.files[0] == files[0]
    assert again.facts.weight_bytes == FACTS.weight_bytes


@given(
    st.text()
    | st.binary().map(lambda b: b.decode("latin-1"))
    | st.just('{"packed": "x"}')
    | st.sampled_from(["[1]", "[" * 4096])
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Prepared.from_json(text)


def test_the_command_reports_a_local_model(tmp_path: Path) -> None:
    model, report = next(DEMO.glob("*Q4_K_M.gguf")), tmp_path / "report"
    arguments = ["prepare", "--uri", f"file://{model}", "--cache", str(tmp_path), "--fetch", "--report", str(report)]
    assert main(arguments) == 0
    prepared = Prepared.from_json(report.read_text())
    assert prepared.path == str(model)
    assert prepared.facts.format is ModelFormat.GGUF


def test_a_missing_model_must_be_mended(tmp_path: Path) -> None:
    report = tmp_path / "report"
    arguments = ["prepare", "--uri", "file:///nowhere", "--cache", str(tmp_path), "--report", str(report)]
    assert main(arguments) == 1
    assert FailureRecord.from_json(report.read_text()).failure is FailureClass.MODEL_NOT_FOUND


def test_addresses_inside_the_network_are_refused(tmp_path: Path) -> None:
    report = tmp_path / "report"
    arguments = ["prepare", "--uri", "http://127.0.0.1:9/m.gguf", "--cache", str(tmp_path), "--report", str(report)]
    assert main(arguments) == 1
    assert FailureRecord.from_json(report.read_text()).failure is FailureClass.BAD_ARGUMENT


def test_only_what_may_pass_is_tried_again() -> None:
    assert exit_code(UserError("The hub is away.", failure=FailureClass.HUB_UNREACHABLE)) == 75
    assert exit_code(UserError("It is gated.", failure=FailureClass.MODEL_GATED)) == 1


def test_a_report_that_lacks_what_is_read_by_now_says_so_until_it_is_read_again() -> None:
    short = dataclasses.replace(FACTS, files=FACTS.files[:1], layer_weight_bytes=())
    whole = Prepared(short, "c0ffee", "/m")
    assert not Prepared.from_json(whole.to_json()).lacking
    for part, name in (("facts", "widths"), ("facts", "other_architectures"), ("facts", "abilities")):
        body = json.loads(whole.to_json())
        del body[part][name]
        earlier = Prepared.from_json(json.dumps(body))
        assert earlier.lacking
        assert Prepared.from_json(earlier.to_json()).lacking, "written by this release, it still is what it was"
    body = json.loads(whole.to_json())
    del body["facts"]["layers"][0]["index_bytes"]
    assert Prepared.from_json(json.dumps(body)).lacking


def test_what_a_template_says_comes_through() -> None:
    for known in (None, (), ("Thinking", "Tools")):
        short = dataclasses.replace(FACTS, files=FACTS.files[:1], layer_weight_bytes=(), abilities=known)
        assert Prepared.from_json(Prepared(short, "c0ffee", "/m").to_json()).facts.abilities == known


def test_a_cache_gets_a_part_for_what_engines_compile_that_its_writers_may_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    for _ in range(2):
        make_compiled(tmp_path)
        assert stat.S_IMODE((tmp_path / "compiled").stat().st_mode) == 0o2770
    make_compiled(tmp_path / "away")
    assert not (tmp_path / "away").exists()
