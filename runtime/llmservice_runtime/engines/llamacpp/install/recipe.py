"""How llama.cpp's environment is made: its lock, and llama-cpp-python built for this machine's CPU."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from llmservice_runtime.engines.base.recipe import OwnWheel, Recipe
from llmservice_runtime.engines.llamacpp.install.cpu import cmake_flags, cpu_features
from llmservice_runtime.engines.llamacpp.install.cuda import STARTUP, architectures
from llmservice_runtime.machine.machine import GPU_DEVICES, Device

HERE = Path(__file__).parent
BUILD_OPTIONS = ("-DLLAVA_BUILD=ON", "-DMTMD_VIDEO=OFF")
"""With the library that reads pictures (libmtmd), but not videos, for which it would start ffmpeg."""


def flags(portable: bool) -> tuple[str, ...]:
    """For this machine's CPU; `portable` = nothing newer than AVX2."""
    features = cpu_features(Path("/proc/cpuinfo").read_text())
    return (*cmake_flags(features, platform.machine(), portable), *BUILD_OPTIONS)


def vulkan_flags(portable: bool) -> tuple[str, ...]:
    """The same with the backend for every GPU that has a Vulkan driver."""
    return (*flags(portable), "-DGGML_VULKAN=ON")


def cuda_flags(portable: bool) -> tuple[str, ...]:
    """The same with the backend for NVIDIA GPUs: those of this machine, or the kinds that were named.

    Without virtual memory (VMM), for which it would be linked to the driver: then it can be built, and imported, where
    there is none.
    """
    kinds = f"-DCMAKE_CUDA_ARCHITECTURES={architectures() or 'native'}"
    return (*flags(portable), "-DGGML_CUDA=ON", "-DGGML_CUDA_NO_VMM=ON", "-DGGML_CUDA_NCCL=OFF", kinds)


def _wheel(options: Callable[[bool], tuple[str, ...]], toolkit: str = "", toolkit_lock: Path | None = None) -> OwnWheel:
    return OwnWheel("llama-cpp-python", HERE / "build.lock", options, toolkit, toolkit_lock)


_CPU = Recipe(
    lock=HERE / "llamacpp.lock",
    wheel=_wheel(flags),
    proof="llmservice_runtime.engines.llamacpp.install.check",
)
VULKAN = replace(_CPU, wheel=_wheel(vulkan_flags, "vulkan"), devices=frozenset({Device.CPU, *GPU_DEVICES}))
CUDA = replace(
    _CPU,
    lock=HERE / "llamacpp-cuda.lock",  # the same, and the libraries that its build loads
    wheel=_wheel(cuda_flags, "cuda", HERE / "cuda-toolkit.lock"),
    startup=STARTUP,
    devices=frozenset({Device.CPU, Device.NVIDIA}),
)
RECIPE = replace(_CPU, asked={"vulkan": VULKAN, "cuda": CUDA})
