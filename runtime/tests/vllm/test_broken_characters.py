"""Where the tokens of vLLM are in a text with bytes that are no character: the same place as a regular expression
finds, which takes exponential time for some."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmservice_runtime.engines.vllm.serve.logprobs import BROKEN, Belonging, _end_of

FEW = st.text(f"ab{BROKEN}\n", max_size=12)


@given(FEW.filter(lambda token: token.count(BROKEN) < 4), FEW)
@example(f"{BROKEN}b", "\u00e9b")
@example(BROKEN, "ab")
def test_a_token_is_found_where_an_expression_finds_it(token: str, text: str) -> None:
    if BROKEN in token + text and not text.startswith(token):
        known = re.escape(token).replace(BROKEN, ".{0,4}?")
        found = re.match(f"(?:^.{{0,8}}?{BROKEN}+)??{known}", text, re.DOTALL)
        assert _end_of(token, text) == (found.end() if found and found.end() else None)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (7 * BROKEN + "z", 1000 * BROKEN),
        ("x" + 30 * BROKEN + "y", "x" + 1000 * BROKEN),
        (40 * (BROKEN + "a") + "z", 1000 * "a"),
    ],
)
def test_what_is_not_there_is_looked_for_in_bounded_time(token: str, text: str) -> None:
    """In a process of its own: an expression holds the interpreter for as long as it takes."""
    code = f"from {_end_of.__module__} import _end_of; assert _end_of({token!r}, {text!r}) is None"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_many_broken_characters_hold_up_no_other_request() -> None:
    """A whole answer of them, and tokens that it does not have."""
    belonging = Belonging()
    assert belonging.feed([("zz", None)] * 2000, 30_000 * BROKEN) == []
