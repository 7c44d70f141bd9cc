"""Numbers of vectors as JSON shows them."""

from __future__ import annotations

import json
from array import array

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.openai.digits import digits


@given(st.lists(st.floats(width=32)))
def test_each_is_the_same_float_of_32_bits(numbers: list[float]) -> None:
    vector = array("f", numbers)
    assert array("f", np.array(digits(vector), np.float32).tobytes()).tobytes() == vector.tobytes()


def test_they_are_written_in_a_third_fewer_characters() -> None:
    vector = array("f", (np.random.default_rng(0).standard_normal(384) / 20).astype(np.float32).tobytes())
    assert len(json.dumps(digits(vector))) < 0.7 * len(json.dumps(vector.tolist()))
