"""When the console looks at services: once a step, whatever the clock does."""

from __future__ import annotations

import pytest

from llmservice_console.history import STEP_SECONDS
from llmservice_gateway.console.sampler import until_next

STEP = 1790000000.0
"""A time of a look."""


@pytest.mark.parametrize(
    ("late", "left"),
    [
        (0.0, STEP_SECONDS),
        (1.5, STEP_SECONDS - 1.5),
        (-0.001, STEP_SECONDS + 0.001),  # a sleep that a coarse clock ended before its time
        (-0.0001, STEP_SECONDS + 0.0001),
        (STEP_SECONDS + 1, STEP_SECONDS - 1),  # a look that took longer than a step
    ],
)
def test_no_step_is_looked_at_twice(late: float, left: float) -> None:
    assert until_next(STEP + late) == pytest.approx(left)
