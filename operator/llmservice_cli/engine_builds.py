"""The engines of this release as they stand on this machine: what each is built for, and how to get it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.base.recipe import Recipe
from llmservice_runtime.engines.registry import definition, label
from llmservice_runtime.install.environment import install_command, installed_devices, installed_engines
from llmservice_runtime.machine.drm import drm_gpus
from llmservice_runtime.machine.machine import GPU_DEVICES, Device, EngineBuild, Gpu, Machine
from llmservice_runtime.machine.probe import nvidia_gpus, read_machine
from llmservice_runtime.machine.visible import seen


def builds_here() -> tuple[EngineBuild, ...]:
    """Every engine, with the sentence that says how to install it where it is not, or for a GPU that it is not for."""
    return tuple(
        EngineBuild(
            engine, installed_devices(engine), installed, "" if installed else _install(engine), _gpu_builds(engine)
        )
        for engine, installed in installed_engines().items()
    )


def machine_here() -> Machine:
    """This machine with its engines, and the GPUs that this process's environment lets engines see. GPUs of other
    makers than NVIDIA come from Vulkan where an engine is built for it, else from the kernel, which tells that they are
    there and little more."""
    builds = builds_here()
    machine = read_machine(builds)
    return replace(machine, gpus=_seen(machine.gpus, builds))


def gpus_here() -> tuple[Gpu, ...]:
    """Its GPUs alone, as `machine_here` has them."""
    return _seen(nvidia_gpus(), builds_here())


def _seen(nvidia: tuple[Gpu, ...], builds: Sequence[EngineBuild]) -> tuple[Gpu, ...]:
    by_vulkan = any(build.installed and Device.AMD in build.devices for build in builds)
    if not by_vulkan:  # a machine without that build plans without Vulkan
        return seen(nvidia, os.environ) if nvidia else drm_gpus()
    from llmservice_runtime.machine.vulkan import numbered, vulkan_gpus

    if not nvidia:
        return vulkan_gpus()
    return seen(numbered(nvidia) if len(nvidia) > 1 else nvidia, os.environ)


def unused_gpu(engine: EngineType, machine: Machine) -> str:
    """That the machine has a GPU which the engine's build is not for, and how to get one that is; empty = nothing."""
    gpu, build = machine.gpu, machine.build(engine)
    way = build.gpu_builds.get(gpu.vendor) if gpu and gpu.vendor not in build.devices else None
    return f"{gpu.product} is not used by this build of {label(engine)}. {way}" if gpu and way else ""


def can_be_installed(engine: EngineType) -> bool:
    """Whether `llmservice install` brings it."""
    return bool(install_command(engine))


def builds_elsewhere() -> tuple[EngineBuild, ...]:
    """Engines of a machine that is not this one: nothing is known of what is installed there. A build for its GPUs can
    be made."""
    return tuple(EngineBuild(engine, definition(engine).devices | GPU_DEVICES) for engine in EngineType)


def _gpu_builds(engine: EngineType) -> dict[Device, str]:
    recipe = definition(engine).recipe
    if not isinstance(recipe, Recipe):
        return {}
    words = {device: [w for w, other in recipe.asked.items() if device in other.devices] for device in GPU_DEVICES}
    return {
        device: f"A build for it: llmservice install {engine.folder} --device {' or '.join(found)}"
        for device, found in words.items()
        if found
    }


def _install(engine: EngineType) -> str:
    if install_command(engine):
        return f"Install it with: llmservice install {engine.folder}"
    return "This release can't install it on one machine."
