"""`llmservice plan` and `llmservice engines` on real headers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

from llmservice_api.manifest import load_manifests
from llmservice_cli import plans
from llmservice_cli.main import main
from llmservice_cli.models import resolve
from llmservice_cli.places import Places
from llmservice_planning.plan import Refusal
from llmservice_planning.planner import make_plan
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.machine.machine import Machine

MANIFEST = """
apiVersion: llmservice.dev/v1alpha1
kind: LLMService
metadata: {name: tiny, namespace: apps}
spec:
  model: {uri: "file://model-F16.gguf"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a manifest and two versions of a tiny GGUF."""
    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "x.yaml").write_text(MANIFEST)
    write_gguf(tmp_path / "model-F16.gguf")
    (tmp_path / "model-Q8_0.gguf").write_bytes((tmp_path / "model-F16.gguf").read_bytes() + b"\0" * 64)
    return tmp_path


@pytest.fixture
def write_safetensors() -> Callable[[Path], None]:
    """Writes a small Llama into a folder."""

    def write(folder: Path) -> None:
        config = {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_size": 64,
            "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": 128, "max_position_embeddings": 2048,
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_text("{}")
        (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}')
        head = json.dumps({"model.norm.weight": {"dtype": "BF16", "shape": [64], "data_offsets": [0, 128]}}).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(128))

    return write


def write_gguf(path: Path, architecture: str = "llama") -> None:
    import gguf
    import numpy as np

    out = gguf.GGUFWriter(path, architecture)
    out.add_context_length(2048)
    out.add_embedding_length(64)
    out.add_block_count(2)
    out.add_feed_forward_length(128)
    out.add_head_count(4)
    out.add_head_count_kv(2)
    out.add_file_type(1)
    out.add_chat_template("{{ messages }}")
    out.add_tokenizer_model("llama")
    out.add_token_list([b"<unk>", b"a", b"b"])
    out.add_tensor("token_embd.weight", np.zeros((3, 64), np.float16))
    for layer in range(2):
        out.add_tensor(f"blk.{layer}.attn_q.weight", np.zeros((64, 64), np.float16))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def test_the_plan_as_text_names_engine_memory_and_reasons(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", str(folder / "x.yaml"), "-o", "wide"]) == 0
    text = capsys.readouterr().out
    for words in ("apps/tiny", "llama.cpp", "memory budget", "KV cache of", "other engines", "vLLM reads GGUF only"):
        assert words in text


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_the_plan_as_data(folder: Path, capsys: pytest.CaptureFixture[str], output: str) -> None:
    assert main(["plan", "-f", str(folder / "x.yaml"), "-o", output]) == 0
    text = capsys.readouterr().out
    body = json.loads(text)[0] if output == "json" else yaml.safe_load(text)
    assert body["name"] == "apps/tiny"
    assert body["plan"]["engine"] == "LlamaCpp"
    assert body["plan"]["contextTokens"] == 2048
    assert {r["engine"] for r in body["plan"]["rejected"]} == set(EngineType) - {"LlamaCpp"}


def test_another_machine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", str(folder / "x.yaml"), "--gpu", "tesla-t4", "--gpus", "2", "-o", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)[0]["plan"]
    assert (plan["accelerator"], plan["acceleratorCount"], plan["gpuLayers"]) == ("T4", 1, -1)


def test_how_fast_a_gpu_of_ones_own_is_can_be_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", str(folder / "x.yaml"), "--gpu", "RTX-6000D", "-o", "json"]) == 0
    assert "RTX-6000D" in json.loads(capsys.readouterr().out)[0]["plan"]["speed"]["unknown"]
    said = ["--gpu", "RTX-6000D", "--gpu-bandwidth", "1300G"]
    assert main(["plan", "-f", str(folder / "x.yaml"), *said, "-o", "json"]) == 0
    assert "caches" in json.loads(capsys.readouterr().out)[0]["plan"]["speed"]["unknown"], "it is a tiny model"


def test_a_refusal_is_exit_code_1_with_numbered_ways_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", str(folder / "x.yaml"), "--memory", "0.2"]) == 1
    text = capsys.readouterr().out
    assert "short." in text
    assert "1. " in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu", "RTX-4900"], "RTX-4090"),
        (["--gpus", "2"], "--gpu KIND"),
        (["--gpu-memory", "24Gi"], "--gpu KIND"),
        (["--gpu-bandwidth", "900G"], "--gpu KIND"),
        (["--gpu", "NVIDIA GeForce RTX 3060"], "--gpu-memory"),
    ],
)
def test_mistakes_are_two_lines(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["plan", "-f", str(folder / "x.yaml"), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert len(error.splitlines()) == 2


def test_two_services_share_the_machine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "y.yaml").write_text(MANIFEST.replace("name: tiny", "name: other"))
    assert (
        main(["plan", "-f", str(folder / "x.yaml"), "-f", str(folder / "y.yaml"), "--memory", "4", "-o", "json"]) == 0
    )
    first, second = (entry["plan"] for entry in json.loads(capsys.readouterr().out))
    assert second["memoryAvailable"] < first["memoryAvailable"]


def test_engines_of_a_folder_are_one_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["engines", str(folder), "-o", "json"])
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2 * len(EngineType)
    assert {row["quantization"] for row in rows} == {"F16", "Q8_0"}
    assert all(row["reason"] for row in rows)
    main(["engines", str(folder)])
    table = capsys.readouterr().out.splitlines()
    assert table[2].split()[:4] == ["ENGINE", "FORMAT", "QUANTIZATION", "SIZE"]


def test_engines_say_no_where_a_plan_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gguf(tmp_path / "model-F16.gguf", "nomic-bert")
    assert main(["engines", str(tmp_path), "-o", "json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    reasons = {row["engine"]: row["reason"] for row in rows}
    assert "nomic-bert.pooling_type" in reasons["llama.cpp"]
    assert "reads GGUF only through a plug-in" in reasons["vLLM"]
    assert not any(row["runs"] for row in rows)


def test_engines_of_a_folder_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("no model")
    assert main(["engines", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_of_versions_without_end_the_smaller_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(600):
        (folder / f"m-{number}.gguf").hardlink_to(folder / "model-F16.gguf")
    assert main(["engines", str(folder), "-o", "json"]) in (0, 1)
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 500 * len(EngineType)
    assert "left out: 102 of 602 GGUF models" in err


def test_many_services_of_one_model_read_and_plan_it_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, planned = Mock(wraps=resolve), Mock(wraps=make_plan)
    monkeypatch.setattr(plans, "resolve", read)
    monkeypatch.setattr(plans, "make_plan", planned)
    names = [f"t{number}" for number in range(300)]
    documents = [MANIFEST.replace("tiny", name).replace("spec:", "spec:\n  contextTokens: 4096") for name in names]
    (folder / "x.yaml").write_text("---".join([*documents, MANIFEST.replace("tiny", "other")]))
    places = Places(folder / "cache", folder / "state")
    machine = Machine(8, 64 << 30, 64 << 30, frozenset({"avx2"}))
    answers = plans.plan_services(load_manifests([folder / "x.yaml"]), machine, places)
    made = [service for service in answers if isinstance(service, plans.PlannedService)]
    assert [service.manifest.service.metadata.name for service in made] == [*names, "other"]
    assert isinstance(made[0].plan, Refusal)  # more context than the model was made for, so that nothing is taken
    assert made[0].plan == made[299].plan != made[300].plan
    assert (read.call_count, planned.call_count) == (1, 2)


def test_one_word_of_the_manifest_switches_the_engine(
    folder: Path, write_safetensors: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that holds a model as GGUF and as safetensors; Auto takes what there is one of."""
    both = folder / "both"
    both.mkdir()
    (folder / "model-F16.gguf").rename(both / "model-F16.gguf")
    write_safetensors(both)
    named = MANIFEST.replace("model-F16.gguf", "both")
    engines = ("Auto", "LlamaCpp", "Transformers", "VLLM", "LlamaCpp")
    documents = [
        f"{named}  engine: {{type: {engine}}}\n".replace("tiny", f"t{number}") for number, engine in enumerate(engines)
    ]
    (folder / "x.yaml").write_text("---".join(documents))
    main(["plan", "-f", str(folder / "x.yaml"), "--gpu", "H100", "--gpus", "8", "-o", "json"])
    items = json.loads(capsys.readouterr().out)
    assert [item["plan"]["engine"] for item in items] == ["VLLM", "LlamaCpp", "Transformers", "VLLM", "LlamaCpp"]
    auto, *_ = items
    assert "also holds 1 GGUF model" in " ".join(auto["plan"]["notes"])


@pytest.mark.parametrize(
    ("argv", "code", "failure", "field"),
    [
        (["plan", "-f", "nothing.yaml", "-o", "json"], 1, "BadArgument", ""),
        (["plan", "-f", "wrong.yaml", "--output=json"], 1, "BadArgument", "spec.model.uri"),
        (["plan", "-f", "x.yaml", "-ojson", "--gpu", "RTX-4900"], 1, "BadArgument", ""),
        (["plan", "-f", "x.yaml", "--gpus", "none", "-o=json"], 2, "BadArgument", ""),
        (["plan", "-o", "json"], 2, "BadArgument", ""),
        (["engines", "nowhere", "-o", "json"], 1, "ModelNotFound", "spec.model.uri"),
        (["engines", "empty", "--out", "json"], 1, "UnsupportedFormat", ""),
        (["ps", "--snippets", "tiny", "-o", "json"], 1, "BadArgument", ""),
    ],
)
def test_errors_are_json_too(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    code: int,
    failure: str,
    field: str,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LLMSERVICE_STATE_DIR", str(folder / "state"))
    (folder / "empty").mkdir()
    (folder / "empty/README.md").write_text("no model")
    (folder / "wrong.yaml").write_text(MANIFEST.replace('"file://model-F16.gguf"', "nonsense"))
    assert main(argv) == code
    told = json.loads(capsys.readouterr().out)
    assert (told["failure"], told["field"]) == (failure, field)
    assert told["reason"] and all(told["waysOut"])


def test_a_model_that_cannot_be_read_hides_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.gguf").write_bytes(b"GGUF")
    (folder / "a.yaml").write_text(MANIFEST.replace("name: tiny", "name: bad").replace("model-F16", "bad"))
    argv = ["plan", "-f", str(folder / "a.yaml"), "-f", str(folder / "x.yaml")]
    assert main([*argv, "-o", "json"]) == 1
    bad, good = json.loads(capsys.readouterr().out)
    assert (bad["name"], good["name"]) == ("apps/bad", "apps/tiny")
    refusal = bad["refusal"]
    assert (refusal["failure"], refusal["field"]) == ("ModelDamaged", "spec.model") and refusal["waysOut"]
    assert good["plan"]
    assert main(argv) == 1
    shown = capsys.readouterr()
    assert "apps/tiny will run" in shown.out
    assert shown.err.startswith("error: apps/bad: bad.gguf is cut off")


def test_of_several_services_an_error_names_those_it_is_about_and_is_told_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.yaml").write_text("---".join(_named(MANIFEST, f"t{i}", "absent.gguf") for i in range(5)))
    assert main(["plan", "-f", str(folder / "x.yaml")]) == 1
    error, fix = capsys.readouterr().err.splitlines()
    assert error.startswith("error: apps/t0, apps/t1, apps/t2 and 2 more: ") and fix.startswith("  fix: ")
    (folder / "x.yaml").write_text(_named(MANIFEST, "t0", "absent.gguf"))
    assert main(["plan", "-f", str(folder / "x.yaml")]) == 1
    assert "apps/t0" not in capsys.readouterr().err


def _named(manifest: str, name: str, file: str) -> str:
    return manifest.replace("tiny", name).replace("model-F16.gguf", file)


def test_another_machine_is_not_this_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is said of what is installed here, of this machine's CPUs or of its memory."""
    assert main(["plan", "-f", str(folder / "x.yaml"), "--gpu", "MI300X", "-o", "wide"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("For a machine with 1 × MI300X with 192.0 GiB and 384.0 GiB of memory:")
    for words in (" here", "this machine", "installed", "CPUs"):
        assert words not in text


def test_gpus_that_an_earlier_service_takes_are_said_to_be_taken(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = "  accelerator: {count: 1}\n"
    (folder / "x.yaml").write_text(f"{MANIFEST}{count}---{MANIFEST.replace('tiny', 'second')}{count}")
    assert main(["plan", "-f", str(folder / "x.yaml"), "--gpu", "L4"]) == 1
    text = capsys.readouterr().out
    assert "apps/second can't run: accelerator.count is 1, and other services take every GPU." in text
    assert "this machine" not in text


@pytest.mark.parametrize("option", ["--gpus", "--memory"])
def test_a_number_that_is_none_is_told_its_bounds(
    folder: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["plan", "-f", str(folder / "x.yaml"), "--gpu", "L4", option, "abc"]) == 2
    assert f"argument {option}: between" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["NVIDIA Foo", "A100", "L4"])
def test_how_much_each_gpu_has_can_be_said_of_any(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    argv = ["plan", "-f", str(folder / "x.yaml"), "--gpu", name, "--gpu-memory", "16Gi", "-o", "json"]
    assert main(argv) == 0
    plan = json.loads(capsys.readouterr().out)[0]["plan"]
    assert plan["memoryAvailable"] == int(16 * (1 << 30) * 0.9)


def test_the_manifest_can_say_how_much_a_gpu_of_no_known_name_has(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For another machine too, as the message says; a service that doesn't say it still needs the name to be known."""
    argv = ["plan", "-f", str(folder / "x.yaml"), "--gpu", "NVIDIA Foo", "-o", "json"]
    (folder / "x.yaml").write_text(f"{MANIFEST}  accelerator: {{memory: 16Gi}}\n")
    assert main(argv) == 0
    plan = json.loads(capsys.readouterr().out)[0]["plan"]
    assert plan["memoryAvailable"] == int(16 * (1 << 30) * 0.9)
    (folder / "y.yaml").write_text(MANIFEST.replace("tiny", "other"))
    assert main([*argv, "-f", str(folder / "y.yaml")]) == 1
    assert "NVIDIA Foo" in json.loads(capsys.readouterr().out)["reason"]


@pytest.mark.parametrize("size", ["16", "0Gi", "-1Gi", "16GB", "lots", "1e3Gi"])
def test_a_size_without_a_unit_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], size: str) -> None:
    assert main(["plan", "-f", str(folder / "x.yaml"), "--gpu", "L4", f"--gpu-memory={size}"]) == 2
    assert "24Gi" in capsys.readouterr().err


def test_code_of_a_model_is_run_only_by_who_allows_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trusting = MANIFEST.replace('gguf"}', 'gguf", trustRemoteCode: true}')
    (folder / "x.yaml").write_text(trusting)
    argv = ["plan", "-f", str(folder / "x.yaml")]
    assert main(argv) == 1
    said = capsys.readouterr().out
    assert "model.trustRemoteCode is true, and code that models bring is not run here" in said
    assert "Add --allow-remote-code to the command" in said
    assert main([*argv, "--allow-remote-code"]) == 0
