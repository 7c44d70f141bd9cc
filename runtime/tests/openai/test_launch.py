"""What an engine process sets before it loads anything native."""

from __future__ import annotations

import pytest

from llmservice_runtime.openai.launch import brief_waits

INTEL, AMD, OTHER = "vendor_id\t: GenuineIntel\n", "processor\t: 0\nvendor_id\t: AuthenticAMD\n", "Features : asimd\n"


def test_threads_wait_for_each_other_as_long_on_every_machine() -> None:
    """OpenMP counts turns of a loop, and on AMD's processors these are half as long."""
    intel, amd, other = (int(brief_waits({}, cpuinfo)["GOMP_SPINCOUNT"]) for cpuinfo in (INTEL, AMD, OTHER))
    assert intel == other and 2 * intel <= amd <= 2.5 * intel


@pytest.mark.parametrize("environ", [{"GOMP_SPINCOUNT": "5"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_threads_wait_as_somebody_has_said(environ: dict[str, str]) -> None:
    """engine.env goes before."""
    assert brief_waits(environ, AMD) == {}
