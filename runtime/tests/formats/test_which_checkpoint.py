"""Adapters, parts, leftovers and other engines' files among safetensors and pickles: called what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.formats.inspect import inspect_model
from tests.formats.model_samples import LLAMA, MemoryFiles, safetensors_bytes

Contents = dict[str, bytes | tuple[bytes, int]]
CONFIG = json.dumps(LLAMA).encode()
PICKLE = b"PK\x03\x04" + bytes(60)
BASE = "meta-llama/Llama-3.1-8B"
Q = "layers.0.self_attn.q_proj"


def weights(*names: str, metadata: Mapping[str, str] | None = None) -> tuple[bytes, int]:
    return safetensors_bytes(dict.fromkeys(names, ("F32", (8, 4))), metadata)


PLAIN = weights(f"model.{Q}.weight", "lm_head.weight")


def refused(files: Contents, uri: str = "hf://acme/model", include: tuple[str, ...] = ()) -> UnsupportedModel:
    with pytest.raises(UnsupportedModel) as caught:
        inspect_model(MemoryFiles(files, uri), include)
    return caught.value


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("LoRA", [f"base_model.model.model.{Q}.lora_A.weight", f"base_model.model.model.{Q}.lora_B.weight"]),
        ("LoRA", [f"base_model.model.model.{Q}.lora_A.default.weight", "base_model.model.lm_head.weight"]),
        ("LoRA", ["unet.down_blocks.0.attn.to_q.lora.down.weight", "unet.down_blocks.0.attn.to_q.lora.up.weight"]),
        ("LoRA", ["lora_te_text_model_layers_0_q_proj.lora_down.weight", "lora_te_text_model_layers_0_q_proj.alpha"]),
        ("LoRA", [f"model.{Q}.lora_A.weight", f"model.{Q}.lora_B.weight"]),
        ("DoRA", [f"base_model.model.model.{Q}.lora_A.weight", f"base_model.model.model.{Q}.lora_magnitude_vector"]),
        ("LoHa", ["lycoris_layers_0.hada_w1_a", "lycoris_layers_0.hada_w1_b"]),
        ("LoKr", [f"base_model.model.model.{Q}.lokr_w1"]),
        ("IA3", [f"base_model.model.model.{Q}.ia3_l"]),
        ("VeRA", [f"base_model.model.model.{Q}.vera_lambda_b"]),
        ("prompt tuning", ["prompt_embeddings"]),
        ("adapter of PEFT", ["base_model.model.model.layers.0.input_layernorm.weight"]),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "adapter_model.safetensors", "pytorch_lora_weights.safetensors"])
@pytest.mark.parametrize("configured", [b"", CONFIG])
def test_an_adapter_is_one_by_its_tensors(method: str, names: list[str], name: str, configured: bytes) -> None:
    files: Contents = {name: weights(*names), "README.md": f"---\nbase_model:\n- {BASE}\n---\n# x\n".encode()}
    files |= {"config.json": configured} if configured else {}
    error = refused(files)
    assert BASE in error.reason
    assert "adapter" in error.reason
    if configured or not name.startswith("adapter_model"):
        assert method in error.reason
        assert ("Merge it" in error.remedy) is (method != "prompt tuning")  # PEFT merges none that change no weights


@pytest.mark.parametrize("kind", ["LORA", "IA3", "PROMPT_TUNING", "ADALORA", "LOHA", "VERA", "XYZ", None])
@pytest.mark.parametrize(
    "names",
    [
        ["model.safetensors"],
        ["adapter_model.safetensors"],
        ["adapter_model.bin"],
        ["pytorch_model.bin"],
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ["weights.pt", "optimizer.pt"],
        [],
    ],
)
def test_an_adapter_configuration_without_a_models_says_whose_it_is(kind: str | None, names: list[str]) -> None:
    config = {"peft_type": kind, "base_model_name_or_path": BASE}
    files: Contents = {"adapter_config.json": json.dumps(config).encode(), "tokenizer.json": b"{}"}
    error = refused(files | dict.fromkeys(names, PLAIN))
    assert error.reason.startswith("this is a")
    assert f"adapter of {BASE}, not a model" in error.reason


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_s_own_file_is_no_model_beside_its_configuration(name: str) -> None:
    """Whoever trained it may have saved the base's config.json too."""
    adapter = json.dumps({"peft_type": "LORA", "base_model_name_or_path": BASE}).encode()
    error = refused({"config.json": CONFIG, "adapter_config.json": adapter, name: PLAIN})
    assert f"adapter of {BASE}, not a model" in error.reason


@pytest.mark.parametrize(
    ("readme", "metadata", "base"),
    [
        ("---\nbase_model: 'a/b'\n---", {}, "a/b"),
        ("---\nbase_model: [a/b, c/d]\n---", {}, "a/b"),
        ("# no front matter\nbase_model: x/y", {}, "its base model"),
        ("", {"ss_sd_model_name": "v1-5.safetensors"}, "v1-5.safetensors"),
        ("", {}, "its base model"),
    ],
)
def test_where_a_base_model_is_named(readme: str, metadata: dict[str, str], base: str) -> None:
    files: Contents = {"x.safetensors": weights("lora_unet_a.lora_down.weight", metadata=metadata)}
    error = refused(files | ({"README.md": readme.encode()} if readme else {}))
    assert f"adapter of {base}, not a model" in error.reason


@pytest.mark.parametrize(
    "files",
    [
        {"model.safetensors": weights(f"model.{Q}.base_layer.weight", f"model.{Q}.lora_A.vision.weight")},
        {"model.safetensors": weights(f"model.{Q}.weight", "model.layers.0.attn.w_lora.lora.0.weight")},
        {"adapter_model.safetensors": PLAIN},
        {"model.safetensors": PLAIN, "adapter_config.json": b"{}", "adapter_model.safetensors": b""},
        {"my-lora-merged.safetensors": PLAIN},
        {"model.safetensors": PLAIN, "adapter_config.json": json.dumps({"peft_type": "LORA"}).encode()},
    ],
)
def test_a_model_with_adapters_in_it_or_beside_it_is_a_model(files: Contents) -> None:
    assert inspect_model(MemoryFiles({"config.json": CONFIG, **files})).format is ModelFormat.SAFETENSORS


def sharded(count: int = 3) -> tuple[Contents, dict[str, str]]:
    """A checkpoint in shards, and its weight_map."""
    names = {f"model-{n:05d}-of-{count:05d}.safetensors": f"model.layers.{n}.w.weight" for n in range(1, count + 1)}
    return {path: weights(tensor) for path, tensor in names.items()}, {tensor: path for path, tensor in names.items()}


def indexed(files: Contents, mapping: dict[str, str]) -> Contents:
    index = json.dumps({"weight_map": mapping}).encode()
    return {"config.json": CONFIG, "model.safetensors.index.json": index, **files}


@pytest.mark.parametrize("lost", [(), (1,), (1, 3)])
def test_shards_under_other_names_are_told_theirs(lost: tuple[int, ...]) -> None:
    files, mapping = sharded()
    renamed = {f"part{n}.safetensors": raw for n, raw in enumerate(files.values(), 1) if n not in lost}
    error = refused(indexed(renamed, mapping))
    assert f"{3 - len(lost)} of them {'is' if len(lost) == 2 else 'are'} here under another name" in error.reason
    renames = dict(re.findall(r"(\S+) to (\S+\.safetensors)", error.remedy))
    followed = indexed({renames[path]: raw for path, raw in renamed.items()}, mapping)
    if not lost:
        assert len(inspect_model(MemoryFiles(followed)).files) == 5
    else:
        assert f"get the {len(lost)} missing" in error.remedy
        assert "model-00001-of-00003.safetensors is missing" in refused(followed).reason


@pytest.mark.parametrize("index", [True, False])
def test_a_shard_that_is_missing_is_named(index: bool) -> None:
    files, mapping = sharded()
    del files["model-00002-of-00003.safetensors"]
    held = indexed(files, mapping) if index else {"config.json": CONFIG, **files}
    assert "model-00002-of-00003.safetensors is missing" in refused(held).reason


def test_a_merged_file_beside_the_index_of_its_shards_is_whole() -> None:
    _, mapping = sharded()
    files: Contents = {"model.safetensors": weights(*mapping)}
    assert inspect_model(MemoryFiles(indexed(files, mapping))).weight_bytes == 3 * 128


def test_the_same_model_twice_needs_a_choice_that_works() -> None:
    files, mapping = sharded()
    held: Contents = {"config.json": CONFIG, **files, "model.safetensors": weights(*mapping)}
    error = refused(held)
    assert "2 checkpoints, model-?????-of-00003.safetensors (1 MB); model.safetensors (1 MB)" in error.reason
    include = json.loads(error.remedy.partition("example include: ")[2].rstrip("."))
    assert len(inspect_model(MemoryFiles(held), include).files) == 4
    assert inspect_model(MemoryFiles(indexed(held, mapping))).weight_bytes == 3 * 128  # the index decides


@pytest.mark.parametrize(
    ("chosen", "files"),
    [
        ("a.safetensors", {"a.safetensors": PLAIN, "b.safetensors": PLAIN}),
        ("model.safetensors", {"model.safetensors": PLAIN, "model.fp16.safetensors": PLAIN}),
        ("pytorch_model.bin", {"pytorch_model.bin": PICKLE, "model.safetensors": PLAIN}),
        # vLLM loads every *.safetensors of a folder that has no index, an adapter's too
        ("model.safetensors", {"model.safetensors": PLAIN, "adapter_model.safetensors": weights(f"{Q}.lora_A.weight")}),
    ],
)
def test_a_choice_among_checkpoints_in_a_folder_used_in_place_needs_a_folder(chosen: str, files: Contents) -> None:
    """Engines are pointed at the folder, and would load what was not chosen; what is downloaded is alone there."""
    held = {"config.json": CONFIG, **files}
    (other,) = files.keys() - {chosen}
    assert other not in inspect_model(MemoryFiles(held), [chosen]).files
    here = MemoryFiles(held, "file:///models/m", Path("/models/m"))
    with pytest.raises(UnsupportedModel, match=f"{other} lies beside {chosen}") as error:
        inspect_model(here, [chosen])
    assert "folder of its own" in error.value.remedy
    if chosen == "a.safetensors":
        with pytest.raises(UnsupportedModel, match="2 checkpoints") as error:
            inspect_model(here)
        assert "folder of its own" in error.value.remedy
    own = {path: raw for path, raw in held.items() if path != other}
    assert inspect_model(MemoryFiles(own, "file:///models/m", Path("/models/m"))).files[-1] == chosen


def test_an_index_of_files_that_are_gone_goes_nowhere() -> None:
    """vLLM refuses to start beside it: it is not downloaded, and in a folder used in place it has to be removed."""
    _, mapping = sharded()
    held = indexed({"model.safetensors": weights(*mapping)}, mapping)
    index = "model.safetensors.index.json"
    assert index in held
    assert index not in inspect_model(MemoryFiles(held)).files
    with pytest.raises(UnsupportedModel, match=f"{index} names other files") as error:
        inspect_model(MemoryFiles(held, "file:///models/m", Path("/models/m")))
    assert f"Remove {index}" in error.value.remedy
    del held[index]
    assert inspect_model(MemoryFiles(held, "file:///models/m", Path("/models/m")))


def test_other_copies_of_the_weights_are_noted() -> None:
    files: Contents = {"config.json": CONFIG, "model.safetensors": PLAIN, "pytorch_model.bin": PICKLE}
    more: Contents = {"consolidated.safetensors": PLAIN, "params.json": b"{}", "training_args.bin": PICKLE}
    facts = inspect_model(MemoryFiles(files | more))
    assert "model.safetensors" in facts.files
    assert not {"pytorch_model.bin", "consolidated.safetensors"} & {*facts.files}
    assert sum("not loaded" in note for note in facts.notes) == 2


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["onnx/model.onnx", "config.json"], "ONNX"),
        (["openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.bin", "config.json"], "OpenVINO"),
        (["model.tflite"], "TensorFlow Lite"),
        (["gemma.litertlm"], "TensorFlow Lite"),
        (["weights.npz", "config.json"], "MLX"),
        (["x.mlpackage/Data/weights/weight.bin", "x.mlpackage/Manifest.json"], "Core ML"),
        (["mlc-chat-config.json", "params_shard_0.bin", "params_shard_1.bin"], "MLC"),
        (["model.bin", "config.json", "shared_vocabulary.json"], "CTranslate2"),
        (["rank0.engine", "config.json"], "TensorRT"),
        (["model.pte"], "ExecuTorch"),
        (["flax_model.msgpack", "config.json"], "Flax"),
        (["model.pdparams"], "PaddlePaddle"),
        (["model.nemo"], "NeMo"),
        (["consolidated.00.pth", "consolidated.01.pth", "params.json"], "Meta's own format"),
        (["optimizer.pt", "scheduler.pt", "rng_state_0.pth", "trainer_state.json", "config.json"], "training"),
        (["global_step500/mp_rank_00_model_states.pt", "latest"], "training"),
        (["__0_0.distcp", ".metadata"], "training"),
        (["m.Q8_0.gguf-split-a", "m.Q8_0.gguf-split-b"], "piece of a GGUF"),
        (["m.gguf.part1of2", "m.gguf.part2of2"], "piece of a GGUF"),
        (["README.md"], "no weights among"),
    ],
)
def test_what_no_engine_loads_is_called_what_it_is(paths: list[str], words: str) -> None:
    held: Contents = {path: CONFIG if path == "config.json" else PICKLE for path in paths}
    assert words in refused(held).reason


def test_pieces_of_a_gguf_are_to_be_joined() -> None:
    error = refused({"m.Q8_0.gguf-split-b": b"", "m.Q8_0.gguf-split-a": b"GGUF"})
    assert "cat m.Q8_0.gguf-split-a m.Q8_0.gguf-split-b > m.Q8_0.gguf" in error.remedy


@pytest.mark.parametrize("uri", ["file:///models/run", "hf://acme/run"])
def test_models_in_folders_below_are_listed(uri: str) -> None:
    held: Contents = {"trainer_state.json": b"{}"}
    for step in (500, 1000):
        held |= {f"checkpoint-{step}/config.json": CONFIG, f"checkpoint-{step}/model.safetensors": PLAIN}
        held |= {f"checkpoint-{step}/optimizer.pt": (b"", 1 << 40), f"checkpoint-{step}/tokenizer.json": b"{}"}
    error = refused(held, uri)
    assert "checkpoint-1000 (1 MB); checkpoint-500 (1 MB)" in error.reason
    place = "file:///models/run/checkpoint-1000" if uri.startswith("file") else "file:///models/checkpoint-1000"
    assert place in error.remedy


def test_any_name_may_hold_anything() -> None:
    kinds: dict[str, Any] = {"a": PLAIN, "b": weights(f"base_model.model.{Q}.lora_A.weight")}
    for name in ("model.safetensors", "adapter_model.safetensors", "x-lora.safetensors", "optimizer.safetensors"):
        for raw in kinds.values():
            for config in ({}, {"config.json": CONFIG}):
                try:
                    inspect_model(MemoryFiles({name: raw, **config}))
                except UnsupportedModel as error:
                    assert error.remedy


def test_an_adapter_without_any_configuration_is_told_by_its_header() -> None:
    tensors = weights(f"base_model.model.model.{Q}.ia3_l", metadata={"ss_sd_model_name": BASE})
    error = refused({"adapter_model.safetensors": tensors})
    assert f"is an IA3 adapter of {BASE}" in error.reason
    card = f"---\nbase_model: {BASE}\n---\n".encode()
    error = refused({"adapter_model.safetensors": weights(f"{Q}.lora_magnitude_vector"), "README.md": card})
    assert f"is a DoRA adapter of {BASE}" in error.reason


@pytest.mark.parametrize("key", ["text_model_id", "audio_model_id"])
def test_a_model_whose_parts_are_in_other_repositories_is_refused(key: str) -> None:
    """Ultravox: vLLM would fetch them when it starts."""
    config = json.loads(CONFIG) | {"model_type": "ultravox", key: "acme/base\x1b[31m"}
    files: Contents = {"config.json": json.dumps(config).encode(), "model.safetensors": PLAIN}
    reason = refused(files).reason
    assert "acme/base" in reason
    assert "\x1b" not in reason
    files["config.json"] = json.dumps(config | {key: None}).encode()
    assert inspect_model(MemoryFiles(files)).layers
