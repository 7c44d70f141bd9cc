"""Settings as JSON: what was meant comes back, and what goes without saying is not said."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings

PLAIN = RuntimeSettings(EngineType.LLAMA_CPP, "/m.gguf", "apps/qwen")


def test_what_is_at_its_default_is_not_written_so_that_an_older_image_can_read_the_rest() -> None:
    assert json.loads(PLAIN.to_json()) == {"engine": "LlamaCpp", "model_path": "/m.gguf", "model_name": "apps/qwen"}


@given(st.builds(RuntimeSettings, failure_log=st.sampled_from(["", "/dev/termination-log"])))
def test_what_is_written_is_read_back_to_the_same(settings: RuntimeSettings) -> None:
    assert RuntimeSettings.from_json(settings.to_json()) == settings


@given(st.builds(RuntimeSettings))
def test_only_what_differs_from_the_default_is_written(settings: RuntimeSettings) -> None:
    for name in json.loads(settings.to_json()):
        assert name in ("engine", "model_path", "model_name") or getattr(settings, name) != getattr(PLAIN, name)
