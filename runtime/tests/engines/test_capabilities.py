"""capabilities.json of every engine: of its lock, unedited, and what the engine says when it is asked again."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pytest

from llmservice_runtime.engines.base.capabilities import capabilities
from llmservice_runtime.engines.base.generated import FILE, sealed, stale, text_of
from llmservice_runtime.engines.llamacpp.rules import known as llamacpp
from llmservice_runtime.engines.transformers.rules import known as transformers
from llmservice_runtime.engines.vllm.told import known as vllm
from llmservice_runtime.formats.classes import Part
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import Task
from llmservice_runtime.formats.tasks import GENERATORS, auto_classes, task_of
from llmservice_runtime.install import capabilities as generation
from llmservice_runtime.install.capabilities import differs, engine_folders, lock_of, main

FOLDERS = engine_folders()


@pytest.fixture(params=FOLDERS, ids=[folder.name for folder in FOLDERS])
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an engine's generated file and of its lock."""
    folder: Path = request.param
    copy = tmp_path / folder.name
    copy.mkdir()
    shutil.copy(folder / FILE, copy / FILE)
    shutil.copy(lock_of(folder), copy / "generate.lock")
    return copy


def test_every_engine_has_told(copied: Path) -> None:
    assert stale(copied / FILE, copied / "generate.lock") == ""
    assert len((copied / FILE).read_bytes()) < 200_000


def test_an_edit_by_hand_is_stale(copied: Path) -> None:
    content = json.loads((copied / FILE).read_text())
    content["versions"]["made up"] = "1.0"
    (copied / FILE).write_text(text_of(content))
    assert "edited by hand" in stale(copied / FILE, copied / "generate.lock")


def test_another_lock_is_stale(copied: Path) -> None:
    lock = copied / "generate.lock"
    lock.write_text(lock.read_text().replace("==", "==1", 1))
    problem = stale(copied / FILE, lock)
    assert "another generate.lock" in problem
    assert "make generate-engines" in problem


def test_a_missing_file_is_stale(copied: Path) -> None:
    (copied / FILE).unlink()
    assert "there is none" in stale(copied / FILE, copied / "generate.lock")


@pytest.mark.parametrize("check", [(), ("--check",)])
def test_an_engine_that_is_none_is_refused_by_name(check: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*check, "nosuch"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "nosuch" in said and all(folder.name in said for folder in engine_folders())


def test_the_text_is_canonical(copied: Path) -> None:
    text = (copied / FILE).read_text()
    assert text_of(json.loads(text)) == text


def test_the_locks_are_of_the_versions_that_were_asked() -> None:
    for told, package in ((vllm(), "vllm"), (transformers(), "transformers"), (llamacpp(), "llama-cpp-python")):
        (folder,) = (folder for folder in FOLDERS if capabilities(folder) == told)
        names = (f"{package}==", f"{package}-cpu==")
        locked = next(line for line in lock_of(folder).read_text().splitlines() if line.startswith(names))
        assert locked.split("==")[1].split()[0] == told.versions[package]


@pytest.mark.engine
def test_an_installed_engine_says_the_same_when_asked_again() -> None:
    assert main(["--check", "llamacpp"]) == 0


@pytest.mark.engine
def test_an_installed_engine_that_says_something_else_is_noticed(tmp_path: Path) -> None:
    (folder,) = (folder for folder in FOLDERS if folder.name == "llamacpp")
    copy = tmp_path / folder.name
    copy.mkdir()
    shutil.copy(lock_of(folder), copy / "generate.lock")
    content = json.loads((folder / FILE).read_text())
    content["architectures"].append("foobar")
    (copy / FILE).write_text(text_of(sealed(content, copy / "generate.lock")))
    assert stale(copy / FILE, copy / "generate.lock") == ""
    assert "something else" in differs(copy)


def test_vllm_tells_its_models_and_what_became_of_others() -> None:
    told = vllm()
    assert told.architectures["LlamaForCausalLM"] >= {"Generation"}
    assert "Embedding" in told.architectures["BertModel"]
    assert told.dropped["BaichuanForCausalLM"] == "0.23.0"
    assert not told.runs("FooBarForCausalLM")
    assert told.runs("Qwen3ForRewardModeling") is told.runs("Qwen3ForCausalLM") is True
    assert "BartForConditionalGeneration" in told.elsewhere


def test_what_writes_text_is_not_taken_for_an_embedding_model() -> None:
    told = {**transformers().architectures, **vllm().architectures}
    writes = {"Generation", "Multimodal", "CausalLM", "ImageTextToText"}
    misleading = {name for name, kinds in told.items() if kinds & writes and name.endswith("Model")}
    assert {name for name in misleading if task_of([name], (), True) is not Task.CHAT} == set()
    assert misleading >= GENERATORS - set(vllm().dropped)


def test_vllm_tells_its_options() -> None:
    options = vllm().options
    parallel = options["--tensor-parallel-size"]
    assert (parallel.type, parallel.also, parallel.default) == ("int", ("-tp",), 1)
    assert options["--gpu-memory-utilization"].default == 0.92
    assert options["--gpu-memory-utilization"].bounds == {"gt": 0, "le": 1}
    assert options["--lora-modules"].type == "lora"
    assert (options["--compilation-config"].type, options["--allowed-origins"].type) == ("object", "json")
    assert options["--max-model-len"].type == "size_or_auto"
    assert 16 in options["--max-lora-rank"].choices
    assert options["--enforce-eager"].type == "flag"
    assert "hermes" in vllm().parsers["tool_call"]


def test_transformers_tells_defaults_of_configs() -> None:
    told = transformers()
    assert told.architectures["BertModel"] >= {"Model"}
    llama, gemma = told.configs["llama"], told.configs["gemma3_text"]
    assert llama.has["max_position_embeddings"] == 2048
    assert llama.has["num_key_value_heads"] is None  # as many as heads
    assert told.configs["gpt2"].names["num_hidden_layers"] == "n_layer"
    assert gemma.layer_types == ("sliding_attention",) * 5 + ("full_attention",)
    assert told.configs["cohere2"].has["sliding_window"] == 4096
    assert "sliding_window" not in llama.has


def test_parts_are_told_with_what_their_parents_give_them() -> None:
    told = {model_type: config.part for model_type, config in transformers().configs.items()}
    assert told["gemma3"] == Part("text_config", "gemma3_text", fixed=True)
    assert told["llava"] == Part("text_config", "llama")
    assert told["qwen2_5_omni"] == Part("thinker_config", "qwen2_5_omni_thinker", fixed=True)
    assert (part := told["fast_vlm"]) and (part.omitted["num_key_value_heads"], part.given) == (4, {})
    assert (part := told["voxtral"]) and part.given["max_position_embeddings"] == 131072


def test_vllm_tells_config_classes_of_its_own() -> None:
    told = vllm().configs
    assert told["step3_vl"].part == Part("text_config", "step3_text")
    assert told["step3_text"].has["num_attention_groups"] == 1
    assert told["chatglm"].has["seq_length"] == 2048
    assert "max_position_embeddings" not in told["RefinedWebModel"].has


def test_transformers_tells_what_its_quantizers_do_where() -> None:
    methods = transformers().methods
    assert methods["gptq"].packages == ("gptqmodel", "optimum")
    assert (methods["fp8"].gpu, methods["fp8"].capability, methods["fp8"].cpu) == ("Loads", 89, "Unpacks")
    assert methods["vptq"].cpu == methods["nvfp4"].gpu == "Refuses"
    assert "modelopt" not in methods


def test_llama_cpp_tells_what_it_loads() -> None:
    told = llamacpp()
    assert told.runs("llama") and told.runs("bert") and told.runs("qwen2")
    assert not any(told.runs(name) for name in ("foobar", "clip", "gptj"))
    assert "{arch}.context_length" in told.keys


def test_two_that_generate_make_one_environment_and_each_takes_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    both = Barrier(2)

    def fill(place: Path, lock: Path) -> None:
        made.append(place)
        (place / "bin").mkdir(parents=True)
        with suppress(BrokenBarrierError):
            both.wait(1)  # the other one comes in between, if it can
        (place / "bin" / "python").touch()

    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(generation, "_fill", fill)
    (tmp_path / "generate.lock").write_text("a==1\n")
    with ThreadPoolExecutor(2) as pool:
        pythons = list(pool.map(lambda _: (path := generation._environment(tmp_path), path.exists()), range(2)))
    assert len(made) == 1
    assert pythons == [(made[0] / "bin" / "python", True)] * 2


def test_what_guesses_ahead_is_told_by_its_name() -> None:
    """Or by vLLM's table, where a name says nothing of it; nothing that writes text by itself is taken for it."""
    told = vllm().architectures
    drafts = {name for name, kinds in told.items() if kinds == {"SpeculativeDecoding"}}
    writers = {name for name, kinds in told.items() if kinds & {"Generation", "Multimodal"}}
    refused = set()
    for name in drafts | writers:
        try:
            task_of([name], (), True)
        except UnsupportedModel:
            refused.add(name)
    assert not {name for name in refused & writers if "ForSpeechSeq2Seq" not in name and "Whisper" not in name}
    assert len(refused & drafts) > 0.9 * len(drafts)


@pytest.mark.parametrize(
    ("auto_map", "paths", "task"),
    [
        ({"AutoModelForCausalLM": "x.Y"}, (), Task.CHAT),
        ({"AutoModel": "x.Y"}, (), Task.EMBEDDING),
        ({"AutoModelForCausalLM": "x.Y"}, ("modules.json",), Task.EMBEDDING),
        ({"AutoModelForSequenceClassification": "x.Y"}, (), Task.EMBEDDING),
        (None, (), Task.EMBEDDING),
    ],
)
def test_a_base_class_that_is_mapped_to_a_writer_writes(
    auto_map: dict[str, str] | None, paths: tuple[str, ...], task: Task
) -> None:
    assert task_of(["FooBarModel"], paths, True, auto_classes({"auto_map": auto_map})) is task
