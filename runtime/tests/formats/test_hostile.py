"""Damaged and hostile files: a sentence with a remedy, never another exception, never unbounded memory."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.formats.inspect import inspect_model
from tests.formats.conftest import GgufMaker
from tests.formats.model_samples import LLAMA, MemoryFiles, hf, load_fixture, safetensors_bytes

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
CONFIG = json.dumps(LLAMA).encode()


def outcome(files: MemoryFiles) -> UnsupportedModel | None:
    """The error that comes out, checked; None when the model is readable."""
    try:
        inspect_model(files)
    except UnsupportedModel as error:
        assert error.reason
        assert error.remedy
        assert len(error.reason) < 2000
        return error
    return None


def weights(raw: bytes) -> MemoryFiles:
    return MemoryFiles({"config.json": CONFIG, "model.safetensors": raw})


def header(text: str | bytes, data: int = 0) -> MemoryFiles:
    raw = text.encode() if isinstance(text, str) else text
    return weights(len(raw).to_bytes(8, "little") + raw + bytes(data))


def entry(start: Any, end: Any, dtype: str = "F32", shape: Any = (1,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("files", "word"),
    [
        (weights(b""), "cut off"),
        (weights(b"\xff" * 8), "cut off"),
        (weights(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "LFS"),
        (header("{"), "not valid JSON"),
        (header("[" * 100_000), "nested too deeply"),
        (header('{"a":' * 50_000), "nested too deeply"),
        (header("[]"), "not an object"),
        (header(b'{"\xff": 1}'), "not valid JSON"),
        (header('{"a": NaN}'), "not a JSON value"),
        (header('{"a": ' + "9" * 10_000 + "}"), "not valid JSON"),
        (header('{"a": ' + json.dumps(entry(0, 4)) + ', "a": ' + json.dumps(entry(0, 4)) + "}", 4), "twice"),
        (header(json.dumps({"a": entry(0, 4), "b": entry(2, 6)}), 6), "overlaps"),
        (header(json.dumps({"a": entry(4, 8)}), 8), "hole"),
        (header(json.dumps({"a": entry(-4, 0)}), 4), "impossible"),
        (header(json.dumps({"a": entry(0, 4, "F99")}), 4), "unknown dtype"),
        (header(json.dumps({"a": entry(0, 4, "F32", [1 << 62] * 32)}), 4), "which F32"),
        (header(json.dumps({"a": entry(0, 8)}), 8), "takes 8 bytes"),
        (header(json.dumps({"a": entry(0, 4)}), 2), "cut off"),
        (header(json.dumps({"a": entry(0, 4)}), 9), "after its last"),
        (header(json.dumps({"a": 5}), 4), "lacks dtype"),
        (header("{" + ",".join(['"a":[]'] * 1_100_000) + "}"), "more than 2000000 values"),
        (MemoryFiles({"config.json": (b"", 1 << 30), "model.safetensors": safetensors_bytes({})}), "refused"),
        (MemoryFiles({"model.safetensors": safetensors_bytes({})}), "no config.json"),
        (MemoryFiles({"readme.txt": b""}), "no weights"),
        (MemoryFiles({}), "no files at all|no weights|none of the 0"),
    ],
)
def test_damaged_safetensors(files: MemoryFiles, word: str) -> None:
    with pytest.raises(UnsupportedModel, match=word):
        inspect_model(files)
    outcome(files)


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": -5},
        {"hidden_size": "64"},
        {"num_attention_heads": 1e400},
        {"num_key_value_heads": [1, "x"]},
        {"vocab_size": 10**30},
        {"head_dim": True},
        {"layer_types": [1, None]},
        {"quantization_config": {"quant_method": 7}},
    ],
)
def test_impossible_configurations(change: dict[str, Any]) -> None:
    error = outcome(hf(**change))
    assert error is not None
    assert error.failure is FailureClass.MODEL_DAMAGED


def test_odd_but_harmless_configurations() -> None:
    changes: list[dict[str, Any]] = [
        {"layer_types": []},
        {"architectures": None},
        {"text_config": {}},
        {"full_attention_interval": 4},
    ]
    for change in changes:
        assert outcome(hf(**change)) is None
    assert inspect_model(hf(auto_map={"AutoModel": "x.py"})).remote_code


@pytest.mark.parametrize(
    ("files", "word"),
    [
        (
            {"adapter_config.json": b'{"base_model_name_or_path": "acme/base"}', "adapter_model.safetensors": b""},
            "acme/base",
        ),
        ({"model_index.json": b"{}", "unet/model.safetensors": b""}, "diffusion"),
        ({"model.onnx": b"", "config.json": b"{}"}, "ONNX"),
        ({"genai_config.json": b"{}"}, "ONNX"),
        ({"tf_model.h5": b"", "config.json": b"{}"}, "TensorFlow"),
        ({"config.json": CONFIG, "pytorch_model.bin": b"<html>"}, "neither"),
        ({"config.json": CONFIG, "model.bin": b"GGUF" + bytes(20)}, "another name"),
    ],
)  # fmt: skip
def test_repositories_without_a_model(files: dict[str, bytes], word: str) -> None:
    with pytest.raises(UnsupportedModel, match=word):
        inspect_model(MemoryFiles(files))
    outcome(MemoryFiles(files))


def test_missing_shards_are_named() -> None:
    files = load_fixture("llama-sharded")
    lost = next(path for path in files if path.endswith(".safetensors"))
    del files[lost]
    with pytest.raises(UnsupportedModel, match=lost):
        inspect_model(MemoryFiles(files))


def gguf_start(tensors: int = 0, keys: int = 1, body: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + body


def key(kind: int, value: bytes, name: bytes = b"k") -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GGUF",
        gguf_start(tensors=1 << 60),
        gguf_start(keys=1 << 60),
        gguf_start(body=struct.pack("<Q", 1 << 63)),
        gguf_start(body=key(8, struct.pack("<Q", 1 << 63))),
        gguf_start(body=key(9, struct.pack("<IQ", 8, 1 << 62))),
        gguf_start(body=key(9, struct.pack("<IQ", 12, (1 << 64) - 1))),
        gguf_start(body=key(9, struct.pack("<IQ", 9, 1) * 200)),
        gguf_start(body=key(77, b"")),
        gguf_start(keys=2, body=key(0, b"\0") * 2),
        gguf_start(1, 0, struct.pack("<Q1sI", 1, b"t", 1 << 31)),
        gguf_start(1, 0, struct.pack("<Q1sIQQIQ", 1, b"t", 2, 1 << 62, 1 << 62, 0, 0)),
        gguf_start(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 256, 4, 0)),
        gguf_start(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 256, 999, 0)),
        gguf_start(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 255, 12, 0)),
        gguf_start(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 256, 0, 64)),
        gguf_start(1, 1, key(4, struct.pack("<I", 0), b"general.alignment")),
    ],
)
def test_hostile_gguf(raw: bytes) -> None:
    assert outcome(MemoryFiles({"model.gguf": raw})) is not None


def test_memory_stays_bounded() -> None:
    strings = gguf_start(body=key(9, struct.pack("<IQ", 8, 1_000_000)) + bytes(24 << 20))
    nested = header("{" + '"a":[' * 200_000)
    for files in (MemoryFiles({"model.gguf": strings}), nested):
        tracemalloc.start()
        outcome(files)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 << 20


@QUICK
@given(st.binary(max_size=400))
def test_random_bytes(raw: bytes) -> None:
    for start in (b"", b"GGUF\3\0\0\0", gguf_start(2, 3)):
        outcome(MemoryFiles({"model.gguf": start + raw}))
    outcome(weights(raw))
    outcome(header(raw))
    outcome(MemoryFiles({"config.json": raw, "model.safetensors": safetensors_bytes({})}))


@QUICK
@given(st.integers(0, 1 << 32))
def test_mutated_gguf(gguf_sample: bytes, seed: int) -> None:
    generator = random.Random(seed)
    raw = bytearray(gguf_sample)
    for _ in range(generator.randrange(1, 6)):
        at = generator.randrange(min(len(raw), 900))
        raw[at] = generator.choice((0, 1, 0xFF, 0x7F, generator.randrange(256)))
    outcome(MemoryFiles({"model.gguf": bytes(raw[: generator.choice((len(raw), generator.randrange(len(raw))))])}))


@QUICK
@given(st.integers(0, 1 << 32), st.sampled_from(["llama", "bnb-nf4", "ct-w4a16", "qwen3-next", "mamba", "deepseek-v3"]))
def test_mutated_checkpoints(seed: int, name: str) -> None:
    generator = random.Random(seed)
    files = load_fixture(name)
    for path in ("config.json", "model.safetensors"):
        value = files[path]
        raw = bytearray(value[0] if isinstance(value, tuple) else value)
        for _ in range(generator.randrange(4)):
            raw[generator.randrange(len(raw))] = generator.choice(b'0919"{}[],:\xff\x00 -e')
        files[path] = (bytes(raw), value[1]) if isinstance(value, tuple) else bytes(raw)
    outcome(MemoryFiles(files))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = [
    *LLAMA, "quantization_config", "quantization", "text_config", "layer_types", "sliding_window", "rope_scaling",
    "kv_lora_rank", "head_dim", "mamba_d_state", "linear_attn_config", "per_layer_config", "num_kv_shared_layers",
    "sliding_window_pattern", "hybrid_override_pattern", "attn_layer_period", "auto_map", "compression_config",
    "full_attention_interval", "attn_type_list", "attn_layer_indices", "num_experts", "multi_query",
]  # fmt: skip
QUANT_KEYS = ["quant_method", "bits", "group_size", "config_groups", "weights", "quant_type", "weight_block_size",
              "format", "quant_algo", "producer", "quantization", "global_quant_config", "quant_config",
              "sym"]  # fmt: skip
METHODS = [
    "gptq",
    "awq",
    "fp8",
    "compressed-tensors",
    "bitsandbytes",
    "modelopt",
    "torchao",
    "quark",
    "aqlm",
    "hqq",
    "inc",
]


@QUICK
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=6), st.dictionaries(st.sampled_from(QUANT_KEYS), values),
       st.sampled_from(METHODS))  # fmt: skip
def test_any_configuration(config: dict[str, Any], quantization: dict[str, Any], method: str) -> None:
    outcome(hf(**config))
    outcome(hf(quantization_config={"quant_method": method, **quantization}))
    outcome(hf(quantization_config=quantization, side={"hf_quant_config.json": quantization}))


@pytest.fixture
def gguf_sample(make_gguf: GgufMaker) -> bytes:
    """A GGUF of about a kilobyte of header."""
    raw = make_gguf()
    assert inspect_model(MemoryFiles({"model.gguf": raw})).format is ModelFormat.GGUF
    return raw


class Gated(MemoryFiles):
    """A repository whose listing is public and whose files are not."""

    def read(self, path: str, start: int, length: int) -> bytes:
        raise SourceRefused(f"{path} is gated.", "Accept the licence.", FailureClass.MODEL_GATED)


class SourceRefused(UserError):
    """Stands for what a source raises."""


@pytest.mark.parametrize("path", ["model.gguf", "model.safetensors", "pytorch_model.bin"])
def test_errors_of_the_source_pass_through(path: str) -> None:
    with pytest.raises(SourceRefused) as error:
        inspect_model(Gated({path: (b"", 1000), "config.json": CONFIG}, "hf://acme/gated"))
    assert error.value.failure is FailureClass.MODEL_GATED


def test_what_is_no_gguf_is_shown_as_it_would_be_typed() -> None:
    for data, shown in ((b"hello, world", "`hell`"), (bytes(16), "the bytes 00 00 00 00")):
        with pytest.raises(UnsupportedModel, match=shown):
            inspect_model(MemoryFiles({"x.gguf": data}))


def test_a_remedy_names_no_field_that_does_not_exist() -> None:
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b""}
    with pytest.raises(UnsupportedModel) as caught:
        inspect_model(MemoryFiles(files))
    assert "Merge it" in caught.value.remedy and "spec.adapters" not in caught.value.remedy
