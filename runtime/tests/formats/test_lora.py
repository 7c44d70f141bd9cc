"""Adapters by their headers: what is read of them, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.lora import CONFIG, WEIGHTS, LoraFacts, LoraFormat, Target, inspect_adapter, read_config
from llmservice_runtime.sources.local import LocalFiles
from llmservice_runtime.sources.uri import parse_uri

PREFIX = "base_model.model.model.layers"
CONFIGURED: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "acme/base"}


def written(folder: Path, tensors: dict[str, tuple[int, ...]], **config: Any) -> Path:
    header: dict[str, Any] = {}
    end = 0
    for name, shape in tensors.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    (folder / CONFIG).write_text(json.dumps(CONFIGURED | config))
    return folder


def inspected(folder: Path) -> LoraFacts:
    return inspect_adapter(LocalFiles(parse_uri(f"file://{folder}", folder), None))


def pair(name: str, rank: int = 4, inputs: int = 32, outputs: int = 16) -> dict[str, tuple[int, ...]]:
    return {f"{name}.lora_A.weight": (rank, inputs), f"{name}.lora_B.weight": (outputs, rank)}


def test_facts_of_what_peft_saves(tmp_path: Path) -> None:
    tensors = pair(f"{PREFIX}.0.self_attn.q_proj") | pair(f"{PREFIX}.7.mlp.down_proj", rank=6, inputs=64)
    facts = inspected(written(tmp_path, tensors))
    assert (facts.format, facts.base, facts.rank, facts.layers) == (LoraFormat.PEFT, "acme/base", 6, 8)
    assert facts.targets == (Target("down_proj", 64, 16), Target("q_proj", 32, 16))
    assert facts.files == (CONFIG, WEIGHTS)
    assert LoraFacts.from_json(facts.to_json()) == facts


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"bias": "all"}, "bias: all"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"layer_replication": [[0, 4]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1, 2]}, "activated"),
        ({"r": 0}, "rank"),
        ({"lora_alpha": "x"}, "lora_alpha"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern"),
    ],
)
def test_what_engines_would_leave_out_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModel) as refused:
        inspected(written(tmp_path, pair(f"{PREFIX}.0.self_attn.q_proj"), **config))
    assert said in str(refused.value), refused.value


@pytest.mark.parametrize(
    ("tensors", "failure", "said"),
    [
        ({f"{PREFIX}.0.q.lora_A.weight": (4, 32)}, FailureClass.MODEL_DAMAGED, "do not go together"),
        (pair("x") | {"x.lora_magnitude_vector": (1, 1)}, FailureClass.UNSUPPORTED_FORMAT, "DoRA"),
        ({"lm_head.weight": (4, 4)}, FailureClass.UNSUPPORTED_FORMAT, "lm_head.weight"),
    ],
)
def test_other_tensors(tmp_path: Path, tensors: dict[str, tuple[int, ...]], failure: FailureClass, said: str) -> None:
    with pytest.raises(UnsupportedModel) as refused:
        inspected(written(tmp_path, tensors))
    assert (refused.value.failure, said in refused.value.reason) == (failure, True), refused.value


def test_what_is_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnsupportedModel, match="there is no adapter"):
        inspected(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(CONFIGURED))
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(UnsupportedModel, match=r"only adapter_model\.bin"):
        inspected(tmp_path)
    demo = Path(__file__).parents[2] / "demo" / "model" / "demo-Q4_K_M.gguf"
    with pytest.raises(UnsupportedModel, match="is a model"):
        inspected(demo)


def test_scales_are_pefts() -> None:
    config = read_config(json.dumps(CONFIGURED | {"alpha_pattern": {"q_proj": 2}, "use_rslora": False}).encode())
    assert config.scale("model.layers.0.self_attn.k_proj", 4) == 2.0
    assert config.scale("model.layers.0.self_attn.q_proj", 4) == 0.5
    assert read_config(json.dumps(CONFIGURED | {"use_rslora": True}).encode()).scale("q", 4) == 4.0
