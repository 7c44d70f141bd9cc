"""Patterns of strangers' files find what `re` finds, and never take long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.formats.expressions import LONGEST, finder

NAME = "model.layers.13.mlp.experts.7.gate_proj"


@pytest.mark.parametrize(
    "pattern",
    [
        ".*gate_proj", "gate_proj$", "^model", "^layers", r"layers\.\d+\.mlp", r"layers\.(1|3)\.", r"layers\.(1|13)\.",
        "mlp|attn",
        r"experts\.[0-9]+\.(gate|up)_proj", r"\.*mlp\.*", "", "x?mlp", "l{2}", "[^.]+_proj$", "(?:a|gate)_(proj)?",
        ".*?up",
        r"\w+\.7", "e.p", "x*", "(x|)mlp", r"[\].]mlp", "$", "model.{1,3}ayers", ".{9,}mlp", r"[\w.]+7",
    ],
)  # fmt: skip
@pytest.mark.parametrize("at_start", [True, False])
def test_it_finds_what_re_finds(pattern: str, at_start: bool) -> None:
    finds = finder(pattern, at_start)
    assert finds and finds(NAME) is bool((re.match if at_start else re.search)(pattern, NAME))


@given(st.text("ab.*+?|()[]^$", max_size=12), st.text("ab.", max_size=8))
def test_whatever_is_written(pattern: str, name: str) -> None:
    if finds := finder(pattern):
        assert finds(name) is (re.search(pattern, name) is not None)


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=x)",
        "(?i)x",
        r"(x)\1",
        r"\bx",
        "(a*)*",
        "(?:a+)+b",
        "x" * (LONGEST + 1),
        "x*+",
        "*x",
        "[[x]]",
        ".{,9}x",
        "(x",
    ],
)
def test_what_is_not_read(pattern: str) -> None:
    assert finder(pattern) is None


def test_no_pattern_takes_long() -> None:
    hostile = (".*a" * 39, "(a|a)" * 23, "a?" * 30 + "a" * 30, "(a|b|ab)*c", "[a-z]+[a-z]+[a-z]+[a-z]+x")
    start = time.process_time()
    for pattern in hostile:
        if finds := finder(pattern):
            finds("a" * LONGEST)
    assert time.process_time() - start < 1  # going back on choices would take years
