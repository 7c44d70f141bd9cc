"""What Transformers' weights take: as they are stored, in the type asked for, or in float32 where they are few."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmservice_runtime.engines.transformers.memory import TransformersMemory
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device

Geometry = Callable[..., ModelFacts]


@pytest.mark.parametrize(
    ("dtype", "device", "width"),
    [("auto", Device.CPU, 2), ("bfloat16", Device.CPU, 2), ("float32", Device.CPU, 4), ("float32", Device.NVIDIA, 4)],
)
def test_weights_are_counted_in_their_type(geometry: Geometry, dtype: str, device: Device, width: int) -> None:
    facts = geometry("llama-3.1-8b")
    assert TransformersMemory(dtype).stored(facts, device) == facts.parameters * width


def test_few_weights_are_float32_on_a_cpu(geometry: Geometry) -> None:
    small = geometry("llama-3.1-8b", parameters=3_600_000, weight_bytes=7_200_000)
    assert TransformersMemory().stored(small, Device.CPU) == 4 * small.parameters
    assert TransformersMemory("bfloat16").stored(small, Device.CPU) == 2 * small.parameters
    assert TransformersMemory().stored(small, Device.NVIDIA) == small.weight_bytes
