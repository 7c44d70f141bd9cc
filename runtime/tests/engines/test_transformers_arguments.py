"""spec.engine.args of Transformers: its one argument, and what it does to memory."""

from __future__ import annotations

import pytest

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.transformers.arguments import EngineArgs, parse_args, words


@pytest.mark.parametrize("given", [("--dtype=float32",), ("--dtype", "float32"), ("--dtype=auto", "--dtype=float32")])
def test_the_type_is_read_in_both_spellings_and_given_once(given: tuple[str, ...]) -> None:
    assert parse_args(given) == EngineArgs("float32")
    assert words(given) == ("--dtype=float32",)


def test_a_default_is_not_given() -> None:
    assert words(("--dtype=auto",)) == words(()) == ()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--max-model-len=5",), "--max-model-len is not known to Transformers"),
        (("--dtype=int4",), "--dtype is int4; it must be one of auto, float32, bfloat16, float16"),
        (("--dtype",), "--dtype is empty"),
        (("float32",), "float32 is not known"),
    ],
)
def test_anything_else_is_refused_by_name(given: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_args(given)
