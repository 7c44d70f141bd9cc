"""What Transformers' weights take: as they are stored, in the type asked for, or in float32 where they are few."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmservice_runtime.engines.transformers.memory import TransformersMemory
from llmservice_runtime.estimate.budget import RESERVE, Shape
from llmservice_runtime.estimate.overhead import GIB
from llmservice_runtime.formats.facts import ModelFacts, Quantization
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


@pytest.mark.parametrize("device", [Device.CPU, Device.NVIDIA])
def test_what_the_first_answer_unpacks_is_counted_so(geometry: Geometry, device: Device) -> None:
    packed = geometry("llama-3.1-8b", quantization=Quantization("compressed-tensors", "W4A16", 4), weight_bytes=5 * GIB)
    assert TransformersMemory().stored(packed, device) == 2 * packed.parameters
    kept = geometry("llama-3.1-8b", quantization=Quantization("torchao", "int8", 8), weight_bytes=8 * GIB)
    assert TransformersMemory().stored(kept, device) == 8 * GIB


def test_a_reserve_is_planned_beside_what_is_measured(geometry: Geometry) -> None:
    lines = TransformersMemory().lines(geometry("llama-3.1-8b"), Shape(Device.CPU, 2048, 1, 2048))
    assert [line.name for line in lines][-1] == RESERVE
