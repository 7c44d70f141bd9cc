"""What an engine process sets before it loads anything native."""

from __future__ import annotations

import pytest

from llmservice_runtime.openai.launch import brief_waits


@pytest.mark.parametrize(
    ("environ", "set_"),
    [({}, {"GOMP_SPINCOUNT": "1000"}), ({"GOMP_SPINCOUNT": "5"}, {}), ({"OMP_WAIT_POLICY": "ACTIVE"}, {})],
)
def test_threads_wait_for_each_other_briefly_unless_somebody_says_how(
    environ: dict[str, str], set_: dict[str, str]
) -> None:
    """engine.env goes before."""
    assert brief_waits(environ) == set_
