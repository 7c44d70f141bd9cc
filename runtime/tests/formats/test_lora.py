"""Adapters by their headers: what is read of them, and what is refused by name."""

from __future__ import annotations

import json
import struct
from math import prod
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
        size = 4 * prod(shape)
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
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"lora_alpha": 1e39}, "lora_alpha"),
        ({"alpha_pattern": {"q_proj": 10**400}}, "alpha_pattern"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern"),
        ({"alpha_pattern": {"([a-z0-9_.]+)+X": 1}}, "alpha_pattern"),
        ({"alpha_pattern": {".*.*.*.*X": 1}}, "alpha_pattern"),
        ({"alpha_pattern": {f"q{number}": 1 for number in range(5000)}}, "5000 patterns"),
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
        ({"x.lora_A.weight": (2, 4, 32), "x.lora_B.weight": (2, 16, 4)}, FailureClass.MODEL_DAMAGED, "go together"),
        (pair("x", rank=0), FailureClass.MODEL_DAMAGED, "empty"),
        ({}, FailureClass.MODEL_DAMAGED, "no matrices"),
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


U32, F32, STRING, F64 = 4, 6, 8, 12
GATE = "blk.0.ffn_gate.weight"


def gguf(path: Path, tensors: dict[str, tuple[int, ...]], kind: int = 0, width: int = 4, **alpha: int) -> Path:
    """A GGUF of an adapter; `kind`, `width` of its elements, `alpha` as a number of this type."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    words = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(words) + 1)
    head += b"".join(text(key) + struct.pack("<I", STRING) + text(word) for key, word in words.items())
    scaled = alpha.get("of", F32)
    head += text("adapter.lora.alpha") + struct.pack(f"<I{ {U32: 'I', F32: 'f', F64: 'd'}[scaled] }", scaled, 8)
    end = 0
    for name, shape in tensors.items():
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, end)
        end += -(-width * prod(shape) // 32) * 32
    path.write_bytes(head + bytes(-len(head) % 32 + end))
    return path


def lies(name: str = GATE, *more: int) -> dict[str, tuple[int, ...]]:
    """Both matrices as GGUF has their sizes, the innermost first."""
    return {f"{name}.lora_a": (32, 4, *more), f"{name}.lora_b": (4, 16, *more)}


def test_facts_of_a_gguf(tmp_path: Path) -> None:
    embeds = {"token_embd.weight.lora_a": (6, 512), "token_embd.weight.lora_b": (6, 32)}
    facts = inspected(gguf(tmp_path / "a.gguf", lies() | embeds))
    assert (facts.format, facts.rank, facts.layers) == (LoraFormat.GGUF, 6, 1)
    assert facts.targets == (Target("ffn_gate", 32, 16),)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"of": U32}, "adapter.lora.alpha"),
        ({"of": F64}, "adapter.lora.alpha"),
        ({"kind": 26}, "stored as I32"),
        ({"kind": 28, "width": 8}, "stored as F64"),
        ({"tensors": lies(GATE, 2)}, "do not go together"),
        ({"tensors": {}}, "no matrices"),
        ({"tensors": {"token_embd.weight.lora_a": (6, 512), "token_embd.weight.lora_b": (4, 32)}}, "go together"),
        ({"tensors": lies("blk.0.ffn_gate_exps.weight", 8)}, "experts"),
    ],
)
def test_what_would_end_llama_cpp_is_refused(tmp_path: Path, written: dict[str, Any], said: str) -> None:
    """It asserts, or jumps to nowhere, where others throw: the whole replica would go, again at each start."""
    with pytest.raises(UnsupportedModel) as refused:
        inspected(gguf(tmp_path / "a.gguf", **({"tensors": lies()} | written)))
    assert said in refused.value.reason, refused.value


def test_scales_are_pefts() -> None:
    config = read_config(json.dumps(CONFIGURED | {"alpha_pattern": {"q_proj": 2}, "use_rslora": False}).encode())
    assert config.scale("model.layers.0.self_attn.k_proj", 4) == 2.0
    assert config.scale("model.layers.0.self_attn.q_proj", 4) == 0.5
    some = {r"layers\.[0-3]\..*proj": 2, "k_proj|v_proj": 1}
    config = read_config(json.dumps(CONFIGURED | {"alpha_pattern": some}).encode())
    assert [config.scale(f"model.layers.{n}.self_attn.k_proj", 1) for n in (0, 4)] == [2.0, 1.0]
    assert read_config(json.dumps(CONFIGURED | {"use_rslora": True}).encode()).scale("q", 4) == 4.0
