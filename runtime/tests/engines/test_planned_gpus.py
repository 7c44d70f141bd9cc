"""Drivers, labels and the catalogue spell a GPU in several ways: another product is another one, a spelling is none."""

from __future__ import annotations

import pytest

from llmservice_runtime.engines.base.gpus import others


@pytest.mark.parametrize(
    ("planned", "found", "other"),
    [
        ("L4", ["NVIDIA L4", "NVIDIA L4"], []),
        ("NVIDIA-A100-SXM4-80GB", ["NVIDIA A100-SXM4-80GB"], []),
        ("L4", ["Tesla T4", "NVIDIA L4", "Tesla T4"], ["Tesla T4"]),
        ("A100-40GB", ["NVIDIA A100-SXM4-80GB"], ["NVIDIA A100-SXM4-80GB"]),
        ("L4", ["Something New 9000"], []),
        ("my-gpu", ["Tesla T4"], []),
        ("", ["Tesla T4"], []),
        ("L4", [], []),
    ],
)
def test_other_products_than_planned(planned: str, found: list[str], other: list[str]) -> None:
    assert others(planned, found) == other
