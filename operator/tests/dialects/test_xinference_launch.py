"""What becomes of each field by which Xinference's client launches a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_cli.local.launch import check
from llmservice_cli.ollama.store import Found
from llmservice_cli.wanted.words import meant
from llmservice_gateway.dialects.xinference_launch import REFUSED, launch
from llmservice_gateway.launching.wish import Leave, Wish
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.sources.uri import parse_uri
from llmservice_runtime.wire.errors import ApiError

HUBS = Leave(frozenset(("hf", "modelscope")), ("apps",), more="Add {} to gateway.launch.sources.")
HERE = Leave(frozenset("*"), here=True)
SENT: dict[str, Any] = {
    "model_uid": None, "model_name": "acme/tiny", "model_engine": None, "peft_model_config": None, "model_type": "LLM",
    "model_size_in_billions": None, "model_format": None, "quantization": None, "replica": 1, "n_worker": 1,
    "n_gpu": "auto", "request_limits": None, "worker_ip": None, "gpu_idx": None, "replica_config": None,
    "model_path": None, "enable_thinking": None, "enable_virtual_env": None, "virtual_env_packages": None,
    "virtual_env_find_links": None, "envs": None,
}  # fmt: skip
"""What its client sends where nothing but a name is said."""


def lora(word: str) -> dict[str, Any]:
    return {"lora_list": [{"lora_name": "sql", "local_path": word}]}


def wish(leave: Leave = HUBS, **fields: Any) -> Wish:
    return launch({**SENT, **fields}, leave)


def spec(leave: Leave = HUBS, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = wish(leave, **fields).manifest()["spec"]
    return found


def refused(leave: Leave = HUBS, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        wish(leave, **fields)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "uri"),
    [
        ({"model_name": "acme/tiny"}, "hf://acme/tiny"),
        ({"model_name": "hf://acme/tiny"}, "hf://acme/tiny"),
        ({"model_name": "acme/tiny", "download_hub": "modelscope"}, "modelscope://acme/tiny"),
        ({"model_name": "mine", "model_path": "acme/tiny"}, "hf://acme/tiny"),
        ({"model_name": "mine", "model_path": "/models/tiny.gguf"}, "file:///models/tiny.gguf"),
        ({"model_name": "s3://bucket/tiny"}, "s3://bucket/tiny"),
    ],
)
def test_a_model_is_where_its_name_or_path_leads(fields: dict[str, Any], uri: str) -> None:
    assert spec(HERE, **fields)["model"] == {"uri": uri}


@pytest.mark.parametrize(
    ("word", "uri"),
    [("tmp/evil.gguf", "hf://tmp/evil.gguf"), ("huggingface.co/a/b", "hf://a/b"), ("https://hf.co/a/b/", "hf://a/b")],
)
def test_a_repository_is_the_hubs_however_it_is_written(word: str, uri: str) -> None:
    only = Leave(frozenset(("hf",)), here=True)
    assert wish(only, model_name=word).uri == wish(only, model_name="x", model_path=word).uri == uri
    adapter = {"lora_list": [{"lora_name": "sql", "local_path": word}]}
    assert wish(only, peft_model_config=adapter).spec["adapters"] == [{"name": "sql", "uri": uri}]


PIECES = (
    "hf://", "HF://", "modelscope://", "file://", "s3://", "https://", "huggingface.co/", "https://huggingface.co/",
    "hf.co/", "https://hf.co/", "/", "//", ":", "://", ".", "..", "~", "a", "a/b", "tmp/evil.gguf", ".gguf", ":Q4", " ",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join))
def test_whatever_is_named_only_what_the_installation_allows_is_served(word: str) -> None:
    store = Found((), ())
    for leave in (Leave(frozenset(("hf",)), here=True), Leave(frozenset(("hf",)), ("apps",))):
        for fields in (
            {"model_name": word},
            {"model_name": "x", "model_path": word},
            {"peft_model_config": lora(word)},
        ):
            try:
                asked = wish(leave, **fields)
                served = [adapter["uri"] for adapter in asked.spec.get("adapters", ())]
                if leave.here:  # a process of the instance's says what is meant
                    found = meant(asked.word, store, Path("/cache"), None)
                    check(found, ["hf"])
                    served.append(found.uri)
                else:
                    served.append(asked.manifest()["spec"]["model"]["uri"])
                schemes = {parse_uri(uri, Path("/")).scheme for uri in served}
            except (ApiError, UserError):
                continue
            assert schemes <= {"hf"}, (word, served)


def test_a_word_has_an_end() -> None:
    error = refused(model_name="a/" + "b" * 33_000)
    assert error.status == 400 and "at most 256" in error.message and len(error.message) < 1000


def test_a_name_of_xinferences_registry_is_none_here_and_what_to_write_is_said() -> None:
    error = refused(model_name="qwen2.5-instruct")
    assert error.status == 400 and error.param == "model_name"
    assert "qwen2.5-instruct" in error.message and "hf://OWNER/NAME" in error.message


@pytest.mark.parametrize("word", ["file:///etc/x.gguf", "/etc/x.gguf", "s3://bucket/x", "pvc://claim/x"])
def test_only_sources_that_the_installation_names_are_taken(word: str) -> None:
    error = refused(model_name=word)
    assert error.status == 403 and "only from hf, modelscope" in error.message
    assert "gateway.launch.sources" in error.message
    adapter = {"lora_list": [{"lora_name": "sql", "local_path": word}]}
    assert refused(peft_model_config=adapter).param == "peft_model_config.lora_list.0.local_path"


@pytest.mark.parametrize("word", ["../x.gguf", "~/x", "ftp://x/y", ""])
def test_what_is_no_model_is_refused_wherever_models_may_come_from(word: str) -> None:
    assert refused(HERE, model_name=word).status == 400


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model_engine": "vLLM"}, {"engine": {"type": "VLLM"}}),
        ({"model_engine": "llama.cpp"}, {"engine": {"type": "LlamaCpp"}}),
        ({"model_engine": "Transformers"}, {"engine": {"type": "Transformers"}}),
        ({"model_type": "embedding"}, {"task": "Embedding"}),
        ({"model_type": "rerank"}, {"task": "Rerank"}),
        ({"replica": 3}, {"replicas": 3}),
        ({"n_gpu": 2}, {"accelerator": {"count": 2}}),
        ({"n_gpu": None}, {"accelerator": {"count": 0}}),
        ({"max_model_len": 2048}, {"contextTokens": 2048}),
        ({"n_ctx": 2048}, {"contextTokens": 2048}),
        ({"quantization": "none"}, {}),
        ({"quantization": "8-bit"}, {"engine": {"loadQuantization": "BitsAndBytesInt8"}}),
        (
            {"peft_model_config": {"lora_list": [{"lora_name": "sql", "local_path": "acme/sql"}]}},
            {"adapters": [{"name": "sql", "uri": "hf://acme/sql"}]},
        ),
    ],
)
def test_a_field_with_a_counterpart_becomes_it(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = spec(**fields)
    found.pop("model")
    assert found == expected


def test_a_quantization_chooses_among_files() -> None:
    made = wish(model_format="ggufv2", quantization="Q4_K_M")
    assert made.manifest()["spec"]["model"] == {
        "uri": "hf://acme/tiny", "include": ["*Q4_K_M*.gguf"], "expectedFormat": "GGUF"
    }  # fmt: skip
    assert made.called == "tiny-q4-k-m"
    assert spec(model_format="pytorch")["model"]["expectedFormat"] == "Safetensors"


def test_a_uid_is_namespace_and_name() -> None:
    assert (wish(model_uid="apps.mine").namespace, wish(model_uid="apps.mine").name) == ("apps", "mine")
    assert (wish(model_uid="mine").namespace, wish(model_uid="mine").name) == ("", "mine")
    error = refused(model_uid="No Name")
    assert error.param == "model_uid" and "lower-case letters" in error.message


def test_gpus_have_numbers_on_one_machine_alone() -> None:
    found = spec(HERE, gpu_idx=[0, 1])
    assert found["engine"]["env"] == [{"name": "CUDA_VISIBLE_DEVICES", "value": "0,1"}]
    assert found["accelerator"] == {"count": 2}
    assert refused(gpu_idx=0).param == "gpu_idx" and refused(HERE, gpu_idx=[0], n_gpu=2).param == "gpu_idx"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, 1) for name in REFUSED),
        ("n_worker", 2),
        ("enable_virtual_env", True),
        ("model_engine", "sglang"),
        ("model_type", "image"),
        ("model_format", "awq"),
        ("quantization", "a b"),
        ("n_gpu", "many"),
        ("gpu_idx", "0"),
        ("replica", 5000),
        ("max_model_len", 1),
        ("max_model_len", 0),
        ("download_hub", "csghub"),
        ("anything_else", 1),
        ("peft_model_config", {"image_lora_load_kwargs": {}}),
        ("peft_model_config", {}),
    ],
)
def test_what_has_no_counterpart_is_named(field: str, value: Any) -> None:
    error = refused(**{field: value})
    assert error.status == 400 and str(error.param).startswith(field) and field in error.message
