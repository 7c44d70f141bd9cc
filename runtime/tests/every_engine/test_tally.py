"""A run in which one engine ran fewer tests than the others is told, and fails."""

from __future__ import annotations

from collections import Counter

import pytest

from .tally import chosen, shortfall

ENGINES = ("llamacpp", "transformers", "vllm")


def test_an_engine_that_ran_fewer_is_named() -> None:
    assert shortfall(Counter(llamacpp=9, transformers=9, vllm=9), ENGINES) == ""
    assert shortfall(Counter(), ENGINES) == ""
    told = shortfall(Counter(llamacpp=9, transformers=8), ENGINES)
    assert told == "transformers ran 8, vllm ran 0 of the 9 tests of the contract"


@pytest.mark.parametrize(
    "words", [("-k", "adapters"), ("-m", "not long"), ("--last-failed", "test_a.py"), ("test_a.py::test_b",)]
)
def test_only_a_whole_run_is_held_to_it(words: tuple[str, ...]) -> None:
    assert chosen(pytest.Config.fromdictargs({}, list(words)))
    assert not chosen(pytest.Config.fromdictargs({}, ["runtime/tests"]))
