"""A run in which one engine ran fewer tests than the others is told, and fails."""

from __future__ import annotations

from collections import Counter

from .tally import shortfall

ENGINES = ("llamacpp", "transformers", "vllm")


def test_an_engine_that_ran_fewer_is_named() -> None:
    assert shortfall(Counter(llamacpp=9, transformers=9, vllm=9), ENGINES) == ""
    assert shortfall(Counter(), ENGINES) == ""
    told = shortfall(Counter(llamacpp=9, transformers=8), ENGINES)
    assert told == "transformers ran 8, vllm ran 0 of the 9 tests of the contract"
