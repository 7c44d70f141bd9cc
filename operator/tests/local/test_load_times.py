"""What loading took is known to the next instance, for the same load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmservice_cli.local.load_times import FILE, MOST, LoadTimes
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings

SETTINGS = RuntimeSettings(EngineType.VLLM, "/m", "apps/demo", engine_args=("--enforce-eager",))


def test_the_last_time_of_the_same_load_is_kept(tmp_path: Path) -> None:
    times = LoadTimes(tmp_path)
    assert times.of(SETTINGS) is None
    times.keep(SETTINGS, 30.0)
    times.keep(SETTINGS, 12.5)
    again = LoadTimes(tmp_path)
    assert again.of(replace(SETTINGS, port=1, model_name="other", drain_seconds=1)) == 12.5
    for other in ({"engine": EngineType.LLAMA_CPP}, {"context_tokens": 8}, {"engine_args": ()}, {"threads": 1}):
        assert again.of(replace(SETTINGS, **other)) is None


def test_as_many_are_kept_as_anybody_needs(tmp_path: Path) -> None:
    for tokens in range(1, 2 * MOST):
        LoadTimes(tmp_path).keep(replace(SETTINGS, context_tokens=tokens), float(tokens))
    times = LoadTimes(tmp_path)
    known = [tokens for tokens in range(1, 2 * MOST) if times.of(replace(SETTINGS, context_tokens=tokens))]
    assert known == list(range(MOST, 2 * MOST))


@pytest.mark.parametrize("text", ["", "[]", '{"a": "x"}', '{"a": NaN}', "\x00"])
def test_a_file_that_makes_no_sense_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    times = LoadTimes(tmp_path)
    assert times.of(SETTINGS) is None
    times.keep(SETTINGS, 1.0)
    assert LoadTimes(tmp_path).of(SETTINGS) == 1.0


def test_a_folder_that_can_not_be_written_is_no_error(tmp_path: Path) -> None:
    times = LoadTimes(tmp_path / "gone")
    times.keep(SETTINGS, 1.0)
    assert times.of(SETTINGS) == 1.0
