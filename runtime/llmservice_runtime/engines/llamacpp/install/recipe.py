"""How llama.cpp's environment is made: its lock, and llama-cpp-python built for this machine's CPU."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from llmservice_runtime.engines.base.recipe import OwnWheel, Recipe
from llmservice_runtime.engines.llamacpp.install.cpu import cmake_flags, cpu_features
from llmservice_runtime.machine.machine import GPU_DEVICES, Device
from llmservice_runtime.machine.probe import nvidia_gpus

HERE = Path(__file__).parent
BUILD_OPTIONS = ("-DLLAVA_BUILD=OFF",)
"""The vision library is a third of the build and is not served."""


def flags(portable: bool) -> tuple[str, ...]:
    """For this machine's CPU; `portable` = nothing newer than AVX2."""
    features = cpu_features(Path("/proc/cpuinfo").read_text())
    return (*cmake_flags(features, platform.machine(), portable), *BUILD_OPTIONS)


def vulkan_flags(portable: bool) -> tuple[str, ...]:
    """The same with the backend for every GPU that has a Vulkan driver."""
    return (*flags(portable), "-DGGML_VULKAN=ON")


def cuda_flags(portable: bool) -> tuple[str, ...]:
    """The same with the backend for the NVIDIA GPUs of this machine: kernels for all there are take hours."""
    kinds = sorted({gpu.capability for gpu in nvidia_gpus()})
    return (*flags(portable), "-DGGML_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(map(str, kinds)) or 'native'}")


def _wheel(options: Callable[[bool], tuple[str, ...]], toolkit: str = "") -> OwnWheel:
    return OwnWheel("llama-cpp-python", HERE / "build.lock", options, toolkit)


_CPU = Recipe(
    lock=HERE / "llamacpp.lock",
    wheel=_wheel(flags),
    proof="llmservice_runtime.engines.llamacpp.install.check",
)
VULKAN = replace(_CPU, wheel=_wheel(vulkan_flags, "vulkan"), devices=frozenset({Device.CPU, *GPU_DEVICES}))
CUDA = replace(_CPU, wheel=_wheel(cuda_flags, "cuda"), devices=frozenset({Device.CPU, Device.NVIDIA}))
RECIPE = replace(_CPU, asked={"vulkan": VULKAN, "cuda": CUDA})
