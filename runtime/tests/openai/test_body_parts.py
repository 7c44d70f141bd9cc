"""What a body may be made of: reading JSON of very many parts would stop everybody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.wire.body import MAX_PARTS, bound_parts
from llmservice_runtime.wire.errors import ApiError

TEXT = st.text(st.sampled_from('\\"[{,:aä\n'), max_size=6)
VALUES = st.recursive(
    TEXT | st.integers(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
)


def parts(value: Any) -> int:
    """Texts, lists and objects, by another way."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(parts, value.values()))
    return 1 + sum(map(parts, value)) if isinstance(value, list) else int(isinstance(value, str))


@given(VALUES)
def test_parts_are_counted_as_json_has_them(value: Any) -> None:
    count, data = parts(value), json.dumps(value).encode()
    commas = (len(data) - len(json.dumps(value, separators=("", ": ")).encode())) // 2
    bound_parts(data, count + commas // 8)
    with pytest.raises(ApiError):
        bound_parts(data, count - 1)


@pytest.mark.parametrize(
    "many",
    [b"[],", b"{},", b'"",', b"1,1,1,1,1,1,1,1,"],
)
def test_too_many_are_refused_before_they_are_read(many: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        bound_parts(b"[" + many * MAX_PARTS + b"1]")
    assert (refused.value.status, refused.value.code) == (413, "request_too_large")


@pytest.mark.parametrize("inside", [b"[{,", b'\\"', b"\\\\"])
def test_a_long_text_is_one_whatever_is_in_it(inside: bytes) -> None:
    bound_parts(b'{"prompt": "' + inside * MAX_PARTS + b'"}')
