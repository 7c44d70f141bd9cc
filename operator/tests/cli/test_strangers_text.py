"""What strangers write into names, headers and answers reaches no terminal as it is, from any command."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llmservice_api.conditions import ConditionType
from llmservice_api.findings import FALSE, Finding, conditions
from llmservice_cli.commands.ps import table
from llmservice_cli.local.tell import situation
from llmservice_cli.main import main

EVIL = "\x1b]0;pwned\x07\x1b[31mEvil\x1b[0m\nFakeLine\r\x9b2J\u202e\u2028x"
NAME = EVIL.replace("/", "")
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16", "intermediate_size": 128,
}  # fmt: skip


def st(folder: Path, config: dict[str, Any] | None = None, tensor: str = "model.layers.0.w", **entry: Any) -> Path:
    (folder / "config.json").write_text(json.dumps({**LLAMA, **(config or {})}))
    body = {tensor: {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8], **entry}}
    raw = json.dumps(body).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(8))
    return folder


def gguf(folder: Path, keys: dict[str, str], name: str = "m.gguf", tensor: str = "blk.0.w") -> Path:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    raw = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys))
    raw += b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in keys.items())
    raw += text(tensor) + struct.pack("<IQIQ", 1, 32, 0, 0)
    (folder / name).write_bytes(raw + bytes(-len(raw) % 32) + bytes(128))
    return folder


def files(folder: Path, **contents: str) -> Path:
    for name, text in contents.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def fp8(**more: Any) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": "compressed-tensors", "format": EVIL, **more}}


PLACES: dict[str, Callable[[Path], Path]] = {
    "architecture": lambda d: st(d, {"architectures": [EVIL]}),
    "model_type": lambda d: st(d, {"model_type": EVIL, "architectures": []}),
    "quant_method": lambda d: st(d, {"quantization_config": {"quant_method": EVIL}}),
    "format of compressed-tensors": lambda d: st(d, fp8()),
    "type of a group": lambda d: st(d, fp8(config_groups={"g": {"weights": {"num_bits": 8, "type": EVIL}}})),
    "quant_algo": lambda d: st(d, {"quantization_config": {"quant_method": "modelopt", "quant_algo": EVIL}}),
    "torch_dtype": lambda d: st(d, {"torch_dtype": EVIL}),
    "rope type": lambda d: st(d, {"rope_scaling": {"rope_type": EVIL, "factor": 2}}),
    "layer_types": lambda d: st(d, {"layer_types": [EVIL, EVIL]}),
    "a number": lambda d: st(d, {"hidden_size": EVIL}),
    "key of config.json": lambda d: files(st(d), config__json='{"%s": 1, "%s": 2}' % ((json.dumps(EVIL)[1:-1],) * 2)),
    "tensor": lambda d: st(d, tensor=EVIL),
    "dtype of a tensor": lambda d: st(d, dtype=EVIL),
    "shape of a tensor": lambda d: st(d, tensor=EVIL, shape=[EVIL]),
    "metadata": lambda d: st(d, __metadata__={EVIL: EVIL}),
    "file in an index": lambda d: files(
        st(d), model__safetensors__index__json=json.dumps({"weight_map": {"a": EVIL, "b": "c"}})
    ),
    "base of an adapter": lambda d: files(
        d, adapter_config__json=json.dumps({"peft_type": EVIL, "base_model_name_or_path": EVIL})
    ),
    "base in a model card": lambda d: files(
        st(d, tensor="a.lora_A.weight"), README__md=f"---\nbase_model: a{NAME}\n---\n"
    ),
    "GGUF architecture": lambda d: gguf(d, {"general.architecture": EVIL}),
    "GGUF type": lambda d: gguf(d, {"general.architecture": "llama", "general.type": EVIL}),
    "GGUF base": lambda d: gguf(d, {"general.type": "adapter", "general.base_model.0.name": EVIL}),
    "GGUF tensor": lambda d: gguf(d, {"general.architecture": "llama"}, tensor=EVIL),
    "GGUF keys": lambda d: gguf(gguf(d, {EVIL: "", "general.architecture": "llama"}), {EVIL: EVIL}, "other.gguf"),
    "GGUF names": lambda d: gguf(gguf(d, {"general.architecture": "llama"}, f"{NAME}-Q4_0.gguf"), {}, f"{NAME}.gguf"),
    "magic": lambda d: files(d, m__gguf=EVIL),
    "names of files": lambda d: files(d, **{NAME: "", f"{NAME}.onnx": "", f"{NAME}2": ""}),
    "names of pickles": lambda d: files(st(d), **{f"{NAME}.bin": "x"}),
    "nothing but a name": lambda d: files(d, **{NAME: ""}),
    "name that is no UTF-8": lambda d: (Path(os.fsdecode(bytes(d) + b"/\xff\x9b.bin")).write_text(""), d)[1],
}


def check(shown: str) -> None:
    for line in shown.split("\n"):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\ud800-\udfff]", line), repr(line)
        assert not line.startswith("FakeLine")


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMSERVICE_STATE_DIR", str(tmp_path / "state"))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("folder", ["m", NAME])
def test_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, folder: str) -> None:
    model = tmp_path / folder
    model.mkdir()
    PLACES[place](model)
    uri = f"file://{model}"
    manifest = {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService", "metadata": {"name": "t"}}
    (tmp_path / "x.yaml").write_text(json.dumps({**manifest, "spec": {"model": {"uri": uri}}}))
    for output in ("text", "wide", "json", "yaml"):
        main(["plan", "-f", str(tmp_path / "x.yaml"), "--gpu", "H100", "-o", output])
    for output in ("table", "json"):
        main(["engines", str(model), "--gpu", "H100", "-o", output])
    out, err = capsys.readouterr()
    assert out + err
    check(out)
    check(err)


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"uri": EVIL}},
        {"model": {"uri": f"hf://a/{EVIL}"}},
        {"model": {"uri": "file:///absent", EVIL: 1}},
        {"model": {"uri": "file:///", "include": [EVIL]}},
        {"model": {"uri": "file:///absent", "revision": EVIL}},
        {"model": {"uri": "file:///absent"}, "engine": {"type": EVIL, "args": [EVIL]}},
    ],
)
def test_of_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: dict[str, Any]) -> None:
    for name in ("t", EVIL):
        manifest = {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService", "metadata": {"name": name}}
        (tmp_path / "x.yaml").write_text(json.dumps({**manifest, "spec": spec}))
        assert main(["plan", "-f", str(tmp_path / "x.yaml")]) == 1
        assert main(["up", "-f", str(tmp_path / "x.yaml")] if name == EVIL else ["plan", "-f", EVIL]) == 1
    out, err = capsys.readouterr()
    check(out + err)


@pytest.mark.parametrize(
    "command",
    [
        ["ps", "--snippets", EVIL],
        ["logs", EVIL],
        ["chat", EVIL],
        ["down", EVIL],
        ["scale", EVIL, "--replicas", "1"],
        ["engines", EVIL],
        ["engines", f"hf://{EVIL}"],
        ["nothing", EVIL],
        [EVIL],
    ],
)
def test_of_an_argument(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    try:
        assert main(command)
    except SystemExit as error:
        assert error.code
    out, err = capsys.readouterr()
    check(out)
    check(err)


def test_of_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "state" / "logs" / "default" / "t"
    folder.mkdir(parents=True)
    (folder / "0.log").write_bytes(EVIL.encode().replace(b"\nFakeLine", b"") + b"\xff\n")
    assert main(["logs", "t"]) == 0
    check(capsys.readouterr().out)


def test_of_a_replica_and_a_condition() -> None:
    check(table([("NAME", "STATUS"), (EVIL, EVIL)]))
    found = [Finding(ConditionType.READY, FALSE, "Crashed", EVIL), Finding(ConditionType.PROGRESSING, FALSE, "x", EVIL)]
    found += [Finding(ConditionType.MODEL_RESOLVED, FALSE, "ModelDamaged", EVIL)]
    stated = conditions(found, [], 1, datetime(2026, 1, 1, tzinfo=UTC))
    for condition in stated:
        check(condition["message"])
    entry = {"object": {"status": {"conditions": stated, "readyReplicas": 0}, "spec": {"replicas": 1}}, "replicas": []}
    check(situation(entry))
