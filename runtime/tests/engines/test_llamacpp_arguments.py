"""spec.engine.args of llama.cpp and of Transformers in a plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.llamacpp.arguments import parse_args, words
from llmservice_runtime.engines.llamacpp.options import llama_options
from llmservice_runtime.engines.registry import definition

LLAMA = definition(EngineType.LLAMA_CPP)


@pytest.mark.parametrize(
    ("args", "remedy"),
    [
        (["--ctx-size=4096"], "Set contextTokens"),
        (["-c", "4096"], "Set contextTokens"),
        (["--n-gpu-layers=20"], "planned"),
        (["--gpu-layers=20"], "planned"),
        (["--cache-type-k", "q8_0"], "--kv-type"),
        (["--parallel=4"], "sequences are planned"),
        (["--model=/etc"], "Set model.uri"),
        (["--port=1"], "its own address"),
        (["--kv-typ=q8_0"], "Did you mean --kv-type?"),
        (["--ubatch_size=64"], "Did you mean --ubatch-size?"),
        (["--threads 4"], "as two items of the list, or as --threads=VALUE"),
        (["--frobnicate"], "llama.cpp takes: --threads"),
        (["--"], "llama.cpp takes: --threads"),
    ],
)
def test_what_it_does_not_take_is_refused_with_what_says_the_same(args: list[str], remedy: str) -> None:
    with pytest.raises(UserError) as caught:
        LLAMA.memory(args)
    assert args[0] in caught.value.reason
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("args", [["--rope-freq-scale=0"], ["--rope-freq-scale=nan"], ["--rope-freq-base=-1"]])
def test_positions_that_can_not_be_are_refused(args: list[str]) -> None:
    with pytest.raises(UserError, match="is not more than 0"):
        LLAMA.memory(args)


@pytest.mark.parametrize("name", ["--kv-type", "--threads", "--rope-freq-base"])
def test_two_dashes_are_no_value(name: str) -> None:
    with pytest.raises(UserError, match=f"argument {name}: '--' is no value"):
        LLAMA.memory([f"{name}=--"])


@pytest.mark.parametrize(
    ("value", "reason"), [("0", "is not more than 0"), ("9", "is more than 3"), ("nan", "is not more than 0")]
)
def test_a_step_takes_a_time_that_it_may_take(value: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        parse_args([f"--step-seconds={value}"])


def test_of_an_option_that_is_repeated_the_last_is_told_once() -> None:
    assert words(["--kv-type=f16", "--mlock", "--kv-type", "q8_0", "--ubatch-size=64"]) == (
        "--ubatch-size=64",
        "--kv-type=q8_0",
        "--mlock",
    )
    assert words([]) == ()


_ONE = st.sampled_from([
    ("--threads", "3"), ("--batch-size=512",), ("--ubatch-size", "64"), ("--kv-type=q4_0",), ("--kv-layout", "split"),
    ("--step-seconds", "0.5"),
    ("--no-mmap",), ("--mlock",), ("--rope-scaling=yarn",), ("--rope-freq-scale", "0.5"), ("--rope-freq-base=1e6",),
])  # fmt: skip


@given(st.lists(_ONE, max_size=8))
def test_reading_what_was_written_changes_nothing(given_: list[tuple[str, ...]]) -> None:
    args = [word for one in given_ for word in one]
    assert parse_args(words(args)) == parse_args(args)
    assert words(words(args)) == words(args)


def test_a_graph_is_no_larger_than_a_batch() -> None:
    assert llama_options(parse_args(["--batch-size=128"])).ubatch == 128
    assert llama_options(parse_args(["--ubatch-size=1024"])).ubatch == 1024


def test_scores_without_flash_attention_and_stretched_positions_count() -> None:
    assert llama_options(parse_args(["--flash-attn=off"])).scores
    assert LLAMA.memory(["--rope-scaling=yarn"]).lifts_context
    assert LLAMA.memory(["--rope-freq-scale=0.25"]).lifts_context
    assert not LLAMA.memory(["--rope-freq-scale=1"]).lifts_context
