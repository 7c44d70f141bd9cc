"""What GPUs this machine is said to have, by what its engines are built for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmservice_cli import engine_builds
from llmservice_cli.commands.plan import describe
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.machine import vulkan
from llmservice_runtime.machine.machine import Device, EngineBuild, Gpu, Machine

KERNEL, VULKAN = Gpu("AMD GPU (1002:7480)", Device.AMD, 0), Gpu("AMD Radeon RX 7600M XT", Device.AMD, 8 << 30)
NVIDIA = Gpu("RTX 4070", Device.NVIDIA, 8 << 30, 89)


@pytest.mark.parametrize(
    ("nvidia", "devices", "installed", "gpus"),
    [
        ((NVIDIA,), {Device.CPU}, True, (NVIDIA,)),
        ((), {Device.CPU}, True, (KERNEL,)),
        ((), {Device.CPU, Device.AMD}, False, (KERNEL,)),
        ((), {Device.CPU, Device.AMD}, True, (VULKAN,)),
    ],
)
def test_the_driver_is_asked_where_an_engine_could_use_it(
    monkeypatch: pytest.MonkeyPatch,
    nvidia: tuple[Gpu, ...],
    devices: set[Device],
    installed: bool,
    gpus: tuple[Gpu, ...],
) -> None:
    builds = (EngineBuild(EngineType.LLAMA_CPP, frozenset(devices), installed),)
    monkeypatch.setattr(engine_builds, "builds_here", lambda: builds)
    monkeypatch.setattr(engine_builds, "read_machine", lambda builds: Machine(2, 1, 1, gpus=nvidia, builds=builds))
    monkeypatch.setattr(vulkan, "vulkan_gpus", lambda: (VULKAN,))
    monkeypatch.setattr(engine_builds, "drm_gpus", lambda: (KERNEL,))
    monkeypatch.setattr(engine_builds, "nvidia_gpus", lambda: nvidia)
    assert engine_builds.machine_here().gpus == gpus == engine_builds.gpus_here()


def test_llama_cpp_offers_its_builds_for_gpus() -> None:
    (build,) = [build for build in engine_builds.builds_here() if build.engine is EngineType.LLAMA_CPP]
    assert build.gpu_builds[Device.AMD].endswith("llmservice install llamacpp --device vulkan")
    assert build.gpu_builds[Device.NVIDIA].endswith("--device vulkan or cuda")


def test_installing_says_what_gpu_it_leaves_unused() -> None:
    way = "A build for it: llmservice install llamacpp --device vulkan"
    build = EngineBuild(EngineType.LLAMA_CPP, frozenset({Device.CPU}), gpu_builds={Device.AMD: way})
    machine = Machine(2, 1, 1, gpus=(KERNEL,), builds=(build,))
    said = engine_builds.unused_gpu(EngineType.LLAMA_CPP, machine)
    assert said == f"AMD GPU (1002:7480) is not used by this build of llama.cpp. {way}"
    assert not engine_builds.unused_gpu(EngineType.LLAMA_CPP, replace(machine, gpus=()))
    for_it = replace(build, devices=frozenset({Device.CPU, Device.AMD}))
    assert not engine_builds.unused_gpu(EngineType.LLAMA_CPP, replace(machine, builds=(for_it,)))


def test_memory_that_is_not_known_is_not_said() -> None:
    assert describe(Machine(2, 1 << 30, 1 << 30, gpus=(KERNEL,))).endswith("free, 1 × AMD GPU (1002:7480))")
