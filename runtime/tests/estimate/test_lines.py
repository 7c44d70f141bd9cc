"""Lines of every engine's budget, as a load is held against them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.memory import Part
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.estimate.budget import HOST, RESERVE, SHARED, Shape
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.machine.machine import Device

Geometry = Callable[..., ModelFacts]


@pytest.mark.parametrize("engine", EngineType)
@pytest.mark.parametrize("device", [Device.CPU, Device.NVIDIA])
def test_every_line_has_its_part_and_none_is_negative(geometry: Geometry, engine: EngineType, device: Device) -> None:
    """vLLM's queues were taken from its reserve, which became less than nothing."""
    shape = Shape(device, 2048, 4, 8192, gpus=int(device is not Device.CPU), gpu_layers=99)
    lines = definition(engine).memory(()).lines(geometry("llama-3.1-8b"), shape)
    assert all(line.bytes >= 0 for line in lines), lines
    parts = {line.part for line in lines}
    assert parts >= {Part.WEIGHTS, Part.CACHE, Part.ENGINE}
    for line in lines:
        assert (line.part is Part.RESERVE) == (line.name == RESERVE) and (line.part is Part.SHARED) == (
            line.name == SHARED
        )
    if device is Device.CPU:
        assert {line.where for line in lines} == {HOST} and Part.RESERVE in parts
