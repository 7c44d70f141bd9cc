"""GGUF headers written by the gguf library, and what repositories of them look like."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.llamacpp.rules import known
from llmservice_runtime.engines.registry import reads_gguf
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFormat, Task
from llmservice_runtime.formats.ggml_types import FILE_TYPES, REMOVED, TYPES
from llmservice_runtime.formats.inspect import inspect_model, variants
from tests.formats.conftest import GgufMaker
from tests.formats.model_samples import MemoryFiles, hf


def single(raw: bytes, **more: bytes) -> MemoryFiles:
    return MemoryFiles({"model.gguf": raw, **more})


def test_type_tables_are_those_of_the_locked_library() -> None:
    told = known()
    assert {number: tuple(kind) for number, kind in TYPES.items()} == {
        number: (kind.name, kind.block, kind.bytes) for number, kind in told.tensor_types.items() if kind.block
    }
    assert {number for number, kind in told.tensor_types.items() if not kind.block} == REMOVED
    assert told.file_types == FILE_TYPES


def test_facts_of_a_quantized_model(make_gguf: GgufMaker) -> None:
    facts = inspect_model(single(make_gguf()))
    assert facts.format is ModelFormat.GGUF
    assert facts.quantization is not None
    assert (facts.quantization.method, facts.quantization.name) == ("gguf", "Q4_K_M")
    per_block = 4 * (144 + 210)
    assert facts.weight_bytes == 2 * per_block
    assert facts.layer_weight_bytes == (per_block, per_block)
    assert facts.parameters == 2 * 2 * 4 * 256
    assert facts.quantization.bits == round((4.5 + 6.5625) / 2, 3)
    assert facts.layers == (LayerGroup(LayerKind.FULL, 2, 2, 64, 64),)
    assert (facts.context_tokens, facts.vocab_size, facts.task) == (4096, 8, Task.CHAT)


@pytest.mark.parametrize(("number", "name"), FILE_TYPES.items())
def test_every_file_type_has_its_name(make_gguf: GgufMaker, number: int, name: str) -> None:
    plain = name in {"F32", "F16", "BF16"}
    facts = inspect_model(single(make_gguf(file_type=number, types=("F16",) if plain else ("Q4_K",))))
    assert (facts.quantization is None) == plain
    assert plain or (facts.quantization is not None and facts.quantization.name == name)


def test_missing_file_type_falls_to_the_dominant_tensor_type(make_gguf: GgufMaker) -> None:
    facts = inspect_model(single(make_gguf(file_type=None, types=("Q8_0", "Q8_0", "Q4_0", "F16"))))
    assert facts.quantization is not None
    assert facts.quantization.name == "Q8_0"
    assert any("missing" in note for note in facts.notes)
    assert facts.dtype == "F16"


@pytest.mark.parametrize(
    ("architecture", "values", "layers"),
    [
        ("gemma2", {"attention.sliding_window": 64}, ((LayerKind.SLIDING, 1), (LayerKind.FULL, 1))),
        ("qwen2", {"attention.sliding_window": 64}, ((LayerKind.FULL, 2),)),
        ("mamba", {"ssm.inner_size": 512, "ssm.state_size": 16, "ssm.conv_kernel": 4}, ((LayerKind.RECURRENT, 2),)),
        ("jamba", {"attention.head_count_kv": [0, 2], "ssm.inner_size": 512, "ssm.state_size": 16},
         ((LayerKind.RECURRENT, 1), (LayerKind.FULL, 1))),
        ("deepseek2", {"attention.key_length": 576, "attention.value_length": 512, "attention.key_length_mla": 192,
                       "attention.value_length_mla": 128}, ((LayerKind.MLA, 2),)),
        ("llama", {"attention.key_length": 192, "attention.value_length": 128}, ((LayerKind.FULL, 2),)),
        ("gemma4", {"attention.shared_kv_layers": 1}, ((LayerKind.FULL, 1), (LayerKind.NONE, 1))),
    ],
)  # fmt: skip
def test_layers_by_architecture(
    make_gguf: GgufMaker, architecture: str, values: dict[str, Any], layers: tuple[tuple[LayerKind, int], ...]
) -> None:
    facts = inspect_model(single(make_gguf(architecture, values)))
    assert tuple((group.kind, group.count) for group in facts.layers) == layers
    if architecture == "llama":
        assert (facts.layers[0].k_dim, facts.layers[0].v_dim) == (192, 128)


@pytest.mark.parametrize(
    ("architecture", "values", "template", "task"),
    [
        ("llama", {}, False, Task.COMPLETION),
        ("qwen3", {"pooling_type": 3}, True, Task.EMBEDDING),
        ("qwen3", {"pooling_type": 4}, True, Task.RERANK),
        ("bert", {"attention.causal": False}, False, Task.EMBEDDING),
    ],
)
def test_tasks(make_gguf: GgufMaker, architecture: str, values: dict[str, Any], template: bool, task: Task) -> None:
    assert inspect_model(single(make_gguf(architecture, values, template=template))).task is task


def test_several_models_need_a_choice(make_gguf: GgufMaker) -> None:
    raw = make_gguf()
    files = MemoryFiles({"m-Q4_K_M.gguf": raw, "m-Q8_0.gguf": (raw, 9_000_000_000), "mmproj-m-f16.gguf": b""})
    with pytest.raises(UnsupportedModel, match=r"Q4_K_M \(1 MB.*Q8_0 \(9.0 GB") as error:
        inspect_model(files)
    assert "*q4_k_m*.gguf" in error.value.remedy
    assert [(v.quantization, v.size) for v in variants(files)] == [("Q4_K_M", len(raw)), ("Q8_0", 9_000_000_000)]
    facts = inspect_model(files, ["*q8_0*"])
    assert facts.files == ("m-Q8_0.gguf",)
    assert "mmproj" in " ".join(inspect_model(files, ["*q4_k_m*", "mmproj*"]).notes)


def test_adapters_and_projectors_beside_the_model_are_skipped(make_gguf: GgufMaker) -> None:
    files = {"model.gguf": make_gguf(), "x.gguf": make_gguf(kind="adapter"), "y.gguf": make_gguf("clip", kind=None)}
    facts = inspect_model(MemoryFiles(files))
    assert facts.files == ("model.gguf",)
    assert len(facts.notes) == 2
    for path in ("x.gguf", "y.gguf"):
        with pytest.raises(UnsupportedModel, match=r"adapter|projector"):
            inspect_model(MemoryFiles(files), [path])
    with pytest.raises(UnsupportedModel, match="adapter"):
        inspect_model(MemoryFiles({"my-lora.gguf": make_gguf(kind="adapter")}))


def test_split_models_start_at_their_first_shard(make_gguf: GgufMaker) -> None:
    count = {"split.count": 2}
    first, second = make_gguf(values={**count, "split.no": 0}, types=()), make_gguf(values={**count, "split.no": 1})
    names = [f"m-q4_k_m-{n:05d}-of-00002.gguf" for n in (1, 2)]
    facts = inspect_model(MemoryFiles(dict(zip(names, (first, second), strict=True))))
    assert facts.files == tuple(names)
    assert facts.file_bytes == len(first) + len(second)
    assert facts.weight_bytes == 2 * 4 * (144 + 210)
    for path, raw in ((names[0], first), (names[1], second)):
        with pytest.raises(UnsupportedModel, match="is missing"):
            inspect_model(MemoryFiles({path: raw}))
    with pytest.raises(UnsupportedModel, match="split into 2 parts, 1 is here"):
        inspect_model(MemoryFiles({"renamed.gguf": first}))


def test_safetensors_beside_gguf(make_gguf: GgufMaker) -> None:
    files = hf()
    files._files["m-Q4_K_M.gguf"] = (make_gguf(), len(make_gguf()))
    facts = inspect_model(files)
    assert facts.format is ModelFormat.SAFETENSORS
    assert any("also holds 1 GGUF" in note for note in facts.notes)
    assert not any(path.endswith(".gguf") for path in facts.files)
    assert inspect_model(files, ["*.gguf"]).format is ModelFormat.GGUF
    assert inspect_model(files, expected=ModelFormat.GGUF).format is ModelFormat.GGUF
    with pytest.raises(UnsupportedModel, match="expectedFormat is Pickle"):
        inspect_model(files, expected=ModelFormat.PICKLE)


@pytest.mark.parametrize(
    ("engine", "weights", "taken"),
    [
        (EngineType.LLAMA_CPP, "model.safetensors", ModelFormat.GGUF),
        (EngineType.VLLM, "model.safetensors", ModelFormat.SAFETENSORS),
        (EngineType.TRANSFORMERS, "pytorch_model.bin", ModelFormat.PICKLE),
        (EngineType.VLLM, "imatrix.bin", ModelFormat.GGUF),
        (None, "model.safetensors", ModelFormat.SAFETENSORS),
        (None, "pytorch_model.bin", ModelFormat.GGUF),
    ],
)
def test_a_named_engine_takes_what_it_reads(
    engine: EngineType | None, weights: str, taken: ModelFormat, make_gguf: GgufMaker
) -> None:
    files = hf()
    whole = files._files.pop("model.safetensors")
    files._files |= {weights: whole if weights.endswith(".safetensors") else (b"PK\x03\x04" + bytes(60), 64)}
    files._files["m-Q4_K_M.gguf"] = (make_gguf(), len(make_gguf()))
    assert inspect_model(files, gguf=reads_gguf(engine)).format is taken
    other = ModelFormat.GGUF if taken is not ModelFormat.GGUF else None
    if other:
        assert inspect_model(files, expected=other, gguf=reads_gguf(engine)).format is other, (
            "the assertion has more say"
        )
        assert inspect_model(files, ["*.gguf"], gguf=reads_gguf(engine)).format is other
    if engine is EngineType.LLAMA_CPP:
        assert inspect_model(files, ["*.safetensors"], gguf=True).format is ModelFormat.SAFETENSORS
        files._files["m-Q8_0.gguf"] = (make_gguf(), len(make_gguf()))
        with pytest.raises(UnsupportedModel, match="2 GGUF models to choose from"):
            inspect_model(files, gguf=True)


def test_another_format_than_asserted_is_named(make_gguf: GgufMaker) -> None:
    with pytest.raises(UnsupportedModel, match="expectedFormat is Safetensors, but the weights are GGUF"):
        inspect_model(MemoryFiles({"m.gguf": make_gguf()}), expected=ModelFormat.SAFETENSORS)


def test_gguf_outranks_pickles_and_adapters(make_gguf: GgufMaker) -> None:
    more = {"config.json": b"{}", "imatrix.bin": b"?", "adapter_model.safetensors": b"", "tokenizer.json": b"{}"}
    assert inspect_model(MemoryFiles({"model.gguf": make_gguf(), **more})).format is ModelFormat.GGUF


@pytest.mark.parametrize("magic", [b"lmgg", b"fmgg", b"tjgg", b"algg"])
def test_formats_before_gguf(magic: bytes) -> None:
    for path in ("old.gguf", "ggml-model-q4_0.bin"):
        with pytest.raises(UnsupportedModel, match=r"GG(ML|MF|JT|LA)") as error:
            inspect_model(MemoryFiles({path: magic + bytes(60)}))
        assert "GGUF" in error.value.remedy


def test_other_byte_orders_and_versions(make_gguf: GgufMaker) -> None:
    for raw in (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), b"FUGG" + bytes(40)):
        with pytest.raises(UnsupportedModel, match="big-endian"):
            inspect_model(single(raw))
    with pytest.raises(UnsupportedModel, match="version 1"):
        inspect_model(single(b"GGUF" + struct.pack("<III", 1, 1, 1) + bytes(40)))
    raw = make_gguf()
    assert inspect_model(single(raw[:4] + struct.pack("<I", 2) + raw[8:])).parameters


def test_files_that_are_no_model(make_gguf: GgufMaker) -> None:
    with pytest.raises(UnsupportedModel, match="vocabulary"):
        inspect_model(single(make_gguf(types=())))
    with pytest.raises(UnsupportedModel, match="diffusion"):
        inspect_model(single(make_gguf("flux")))
    with pytest.raises(UnsupportedModel, match="cut off"):
        inspect_model(single(make_gguf()[:-40]))


def test_large_vocabularies_are_stepped_over(make_gguf: GgufMaker) -> None:
    facts = inspect_model(single(make_gguf(tokens=20_000)))
    assert facts.vocab_size == 20_000
