"""Settings as JSON: what was meant comes back, and what goes without saying is not said."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.bounds import RULES, SettingsError
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.memory import Part, PlannedLine
from llmservice_runtime.contract.settings import RuntimeSettings

PLAIN = RuntimeSettings(EngineType.LLAMA_CPP, "/m.gguf", "apps/qwen")


def test_what_is_at_its_default_is_not_written_so_that_an_older_image_can_read_the_rest() -> None:
    assert json.loads(PLAIN.to_json()) == {"engine": "LlamaCpp", "model_path": "/m.gguf", "model_name": "apps/qwen"}


words = st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text)
counts = st.integers(1, 60_000)
built = st.builds(
    RuntimeSettings,
    model_path=words,
    model_name=words,
    model_aliases=st.lists(words, max_size=2).map(tuple),
    task=st.sampled_from(["Chat", "Completion", "Embedding", "Rerank"]),
    host=words,
    port=counts,
    supervisor_port=counts,
    context_tokens=counts,
    max_sequences=counts,
    kv_tokens=counts,
    threads=st.integers(0, 64),
    max_queued_requests=counts,
    drain_seconds=counts,
    load_seconds=counts,
    progress_seconds=st.floats(0.1, 3600),
    engine_args=st.lists(words, max_size=2).map(tuple),
    engine_env=st.dictionaries(words.filter(lambda name: "=" not in name), words, max_size=2),
    allow_origins=st.lists(st.sampled_from(["*", "https://a.example", "http://localhost:3000"]), max_size=2).map(tuple),
    planned_memory=st.lists(
        st.builds(PlannedLine, words, st.sampled_from(Part), st.sampled_from(["GPU", "Host"]), counts), max_size=3
    ).map(tuple),
    planned_accelerator=st.sampled_from(["", "L4"]),
    planned_file_bytes=counts,
    planned_files=st.lists(words, max_size=2).map(tuple),
    compiled=st.sampled_from(["", "/cache/compiled"]),
    failure_log=st.sampled_from(["", "/dev/termination-log"]),
).filter(lambda built: not 0 < built.kv_tokens < built.context_tokens)


@given(built)
def test_what_is_written_is_read_back_to_the_same(settings: RuntimeSettings) -> None:
    assert RuntimeSettings.from_json(settings.to_json()) == settings


@given(built)
def test_only_what_differs_from_the_default_is_written(settings: RuntimeSettings) -> None:
    for name in json.loads(settings.to_json()):
        assert name in ("engine", "model_path", "model_name") or getattr(settings, name) != getattr(PLAIN, name)


WRONG = {
    "context_tokens": ["-5", "0", '"2048"', "true", "2048.0", "1e400", "NaN", "null", "[]", "2147483648"],
    "max_sequences": ["0", "-1", '"4"', "false", "1.5"],
    "kv_tokens": ["-1", '"0"'],
    "threads": ["-1", "true"],
    "max_queued_requests": ["-1"],
    "drain_seconds": ["-1", "1.5"],
    "load_seconds": ["0", '"600"'],
    "progress_seconds": ["0", "-1", "NaN", "Infinity", '"60"', "true"],
    "port": ["99999", "-1", '"8000"', "true"],
    "supervisor_port": ["65536", "8001.0"],
    "task": ['"Pictures"', '"chat"', "null", "1"],
    "host": ['""', '"\\ud800"', "1", "null"],
    "engine": ['"vllm"', '"Ollama"', "1", "null"],
    "model_path": ['""', "null", "1", '"a\\u0000b"', '"\\ud800"'],
    "model_name": ['" "', "[]", '"\\udc80"'],
    "model_aliases": ['"alias"', "[1]", '[""]'],
    "engine_args": ['"--threads=2"', "[1]", "{}"],
    "engine_env": ["[]", '{"A": "\\ud800"}', '{"A": 1}', '{"A=B": "1"}', '{"": "1"}'],
    "compiled": ["1", "null"],
    "planned_memory": [
        '"a"',
        "[1]",
        "[{}]",
        '[{"name": "a", "part": "Weights", "where": "Host", "bytes": -1}]',
        '[{"name": "a", "part": "Other", "where": "Host", "bytes": 1}]',
        '[{"name": "", "part": "Cache", "where": "GPU", "bytes": 1}]',
        '[{"name": "a", "part": "Cache", "where": "Disk", "bytes": 1}]',
        '[{"name": "a", "part": [], "where": "GPU", "bytes": 1}]',
    ],
    "planned_accelerator": ["1", "null"],
    "planned_file_bytes": ["-1"],
    "planned_files": ['"a"', "[1]", '[""]'],
    "failure_log": ["1", "null"],
    "allow_origins": ['"*"', '["example.com"]', '["https://a.example/path"]', "[1]"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_setting_is_refused_with_its_name_its_value_and_what_it_may_be(name: str, value: str) -> None:
    body = {name: json.dumps(text) for name, text in json.loads(PLAIN.to_json()).items()} | {name: value}
    text = "{" + ", ".join(f'"{name}": {value}' for name, value in body.items()) + "}"
    with pytest.raises(SettingsError) as refused:
        RuntimeSettings.from_json(text)
    assert refused.value.reason.startswith(f"`{name}` is ") and "must be" in refused.value.reason
    assert refused.value.remedy and refused.value.failure.value == "BadArgument"


@pytest.mark.parametrize(("context", "pool"), [(None, 4095), (2, 1), (131_072, 131_071)])
def test_a_pool_that_is_smaller_than_one_request_may_be_is_refused(context: int | None, pool: int) -> None:
    body = json.loads(PLAIN.to_json()) | {"kv_tokens": pool} | ({"context_tokens": context} if context else {})
    with pytest.raises(SettingsError, match=f"`kv_tokens` is {pool}.*`context_tokens`, {context or 4096};") as refused:
        RuntimeSettings.from_json(json.dumps(body))
    assert f"`context_tokens` to at most {pool}" in refused.value.remedy
    for enough in (0, (context or 4096)):
        assert RuntimeSettings.from_json(json.dumps(body | {"kv_tokens": enough})).kv_tokens == enough


@pytest.mark.parametrize("text", ["", "[]", "null", "1", "{", "[" * 100_000, '{"engine": "LlamaCpp"}', '{"modle": 1}'])
def test_what_is_no_settings_file_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        RuntimeSettings.from_json(text)


def test_every_setting_has_its_rule() -> None:
    assert {*RULES, "engine"} == {field.name for field in dataclasses.fields(RuntimeSettings)}
