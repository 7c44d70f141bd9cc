"""What a word means as a model, which version is taken, and what its service is called."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.model_words import told_apart
from llmservice_api.patterns import SERVICE_NAME
from llmservice_cli.ollama.names import parse_name
from llmservice_cli.ollama.store import Found, OllamaModel
from llmservice_cli.wanted.choosing import choose
from llmservice_cli.wanted.labels import service_name
from llmservice_cli.wanted.service import Options, Version, manifest, serves
from llmservice_cli.wanted.words import Meant, meant
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.sources.files import FileEntry

NOBODY = Found(())


@pytest.mark.parametrize(
    ("word", "uri", "choice"),
    [
        ("acme/tuned", "hf://acme/tuned", ""),
        ("acme/tuned:Q4_K_M", "hf://acme/tuned", "Q4_K_M"),
        ("hf.co/acme/tuned:q8_0", "hf://acme/tuned", "q8_0"),
        ("https://huggingface.co/acme/tuned", "hf://acme/tuned", ""),
        ("hf://acme/tuned:Q4_K_M", "hf://acme/tuned", "Q4_K_M"),
        ("modelscope://acme/tuned", "modelscope://acme/tuned", ""),
        ("acme/tuned:model-q4.gguf", "hf://acme/tuned", "model-q4.gguf"),
        ("oci://registry.example/models/tuned:v1", "oci://registry.example/models/tuned:v1", ""),
        ("s3://bucket/tuned", "s3://bucket/tuned", ""),
        ("./tuned", "file:///here/tuned", ""),
        ("tuned.gguf", "file:///here/tuned.gguf", ""),
        ("/models/tuned", "file:///models/tuned", ""),
    ],
)
def test_words(word: str, uri: str, choice: str) -> None:
    found = meant(word, NOBODY, Path("/cache"), Path("/here"))
    assert (found.uri, found.choice) == (uri, choice)


def test_a_word_that_means_nothing_is_told_what_would() -> None:
    with pytest.raises(UserError, match="keeps here \\(no model\\)"):
        meant("llama3.2", NOBODY, Path("/cache"), Path("/here"))


def files(**sizes: int) -> Any:
    """A repository; `__` stands for a dot in names. Headers can't be read, so that names alone tell."""
    entries = tuple(FileEntry(name.replace("__", "."), size) for name, size in sizes.items())
    return SimpleNamespace(entries=lambda: entries, read=lambda *_: b"")


def test_of_several_versions_the_one_that_most_people_take() -> None:
    repository = files(m_Q2_K__gguf=2, m_Q4_K_M__gguf=4, m_Q8_0__gguf=8)
    chosen = choose(Meant("acme/m", "hf://acme/m"), repository)
    assert chosen is not None and (chosen[0].files, chosen[1]) == (("m_Q4_K_M.gguf",), "*q4_k_m*.gguf")
    chosen = choose(Meant("acme/m:q8_0", "hf://acme/m", "q8_0"), repository)
    assert chosen is not None and chosen[0].files == ("m_Q8_0.gguf",)
    chosen = choose(Meant("acme/m:M_q2_k.gguf", "hf://acme/m", "M_q2_k.gguf"), repository)
    assert chosen is not None and chosen[0].files == ("m_Q2_K.gguf",)
    only = choose(Meant("acme/m", "hf://acme/m"), files(m__gguf=3))
    assert only is not None and only[1] == ""


def test_a_quantization_that_is_not_there_is_told_with_those_that_are() -> None:
    repository = files(m_Q2_K__gguf=2 * 10**9, m_Q8_0__gguf=8 * 10**9)
    with pytest.raises(UserError) as told:
        choose(Meant("acme/m:Q9_X", "hf://acme/m", "Q9_X"), repository)
    assert told.value.reason == "hf://acme/m has no Q9_X. It has Q2_K (2.0 GB), Q8_0 (8.0 GB)."
    assert told.value.remedy == "Name one of these, as in acme/m:Q2_K."
    with pytest.raises(UserError, match="several models: IQ1_S"):
        choose(Meant("acme/m", "hf://acme/m"), files(m_IQ1_S__gguf=1, m_IQ2_M__gguf=2))
    with pytest.raises(UserError, match="2 models in Q8_0"):
        choose(Meant("acme/m:Q8_0", "hf://acme/m", "Q8_0"), files(a_Q8_0__gguf=1, b_Q8_0__gguf=2))
    with pytest.raises(UserError, match="has no GGUF models, so no Q8_0 of one"):
        choose(Meant("acme/m:Q8_0", "hf://acme/m", "Q8_0"), files(config__json=1, model__safetensors=9))


def test_weights_of_another_format_are_taken_unless_a_gguf_is_named() -> None:
    repository = files(config__json=1, model__safetensors=9, m_Q8_0__gguf=8)
    assert choose(Meant("acme/m", "hf://acme/m"), repository) is None
    chosen = choose(Meant("acme/m:Q8_0", "hf://acme/m", "Q8_0"), repository)
    assert chosen is not None and chosen[1] == "*q8_0*.gguf"


@pytest.mark.parametrize(
    ("uri", "quantization", "name"),
    [
        ("hf://bartowski/Qwen2.5-7B-Instruct-GGUF", "Q4_K_M", "qwen2-5-7b-instruct-q4-k-m"),
        ("hf://acme/7b", "", "m-7b"),
        ("file:///models/demo-Q4_K_M.gguf", "", "demo-q4-k-m"),
        ("https://example.com/a/model.gguf?sig=secret", "", "model"),
        ("hf://acme/" + "long-" * 20, "Q8_0", "long-long-long-long-long-long-long-q8-0"),
        ("s3://bucket/", "", "bucket"),
    ],
)
def test_names_of_services(uri: str, quantization: str, name: str) -> None:
    assert service_name(Meant("", uri), quantization) == name


@given(st.text(min_size=1), st.text(max_size=30))
def test_any_name_becomes_a_label(text: str, quantization: str) -> None:
    for name in (service_name(Meant("", f"hf://x/{text}"), quantization), told_apart("x" * 40, text, "")):
        assert re.fullmatch(SERVICE_NAME, name) and len(name) <= 40, name


def snapshot(version: Version) -> list[dict[str, Any]]:
    return [{"engine": "LlamaCpp", "object": manifest(version, Options(), []).service.to_manifest()}]


def test_the_same_model_is_the_same_service_and_another_has_another_name() -> None:
    first = Version(Meant("acme/tuned", "hf://acme/tuned"))
    there = snapshot(first)
    assert serves(there, first) == "default/tuned"
    assert serves([{**there[0], "engine": None}], first) == "", "it is being prepared, or could not be"
    assert serves([{**there[0], "stopping": True}], first) == "", "somebody ended it"
    assert manifest(first, Options(), there).service.full_name == "default/tuned"
    other = Version(Meant("rival/tuned", "hf://rival/tuned"))
    assert serves(there, other) == ""
    assert re.fullmatch("default/tuned-[0-9a-f]{4}", manifest(other, Options(), there).service.full_name)


def test_a_bare_name_stays_the_service_that_has_it() -> None:
    there = snapshot(Version(Meant("./tuned", "file:///tuned")))
    name = parse_name("tuned")
    assert name is not None
    other = Version(Meant("tuned", "file:///ollama/1", ollama=OllamaModel(name, Path("/ollama"), "1", 0)))
    assert other.alias == "tuned" and manifest(other, Options(), []).service.metadata.annotations
    assert not manifest(other, Options(), there).service.metadata.annotations


def test_what_is_asked_for_stands_in_the_manifest() -> None:
    version = Version(Meant("acme/tuned:Q8_0", "hf://acme/tuned", "Q8_0"), "*q8_0*.gguf", "Q8_0")
    service = manifest(version, Options("mine", 60, 4096, "LlamaCpp"), []).service
    assert service.spec.scaling is not None and service.spec.scaling.idle_seconds == 60
    assert service.spec.context_tokens == 4096 and service.spec.model.include == ["*q8_0*.gguf"]
    assert service.metadata.annotations == {"llmservice.dev/aliases": "acme/tuned:Q8_0"}
    assert manifest(version, Options(idle_seconds=None), []).service.spec.scaling is None
    for options, field in ((Options("No Name"), "metadata.name"), (Options(context_tokens=1), "spec.contextTokens")):
        with pytest.raises(UserError, match=field):
            manifest(version, options, [])
