"""How llama.cpp's environment is made: its lock, and llama-cpp-python built for this machine's CPU."""

from __future__ import annotations

import platform
from pathlib import Path

from llmservice_runtime.engines.base.recipe import OwnWheel, Recipe
from llmservice_runtime.engines.llamacpp.install.cpu import cmake_flags, cpu_features

HERE = Path(__file__).parent
BUILD_OPTIONS = ("-DLLAVA_BUILD=OFF",)
"""The vision library is a third of the build and is not served."""


def flags(portable: bool) -> tuple[str, ...]:
    """For this machine's CPU; `portable` = nothing newer than AVX2."""
    features = cpu_features(Path("/proc/cpuinfo").read_text())
    return (*cmake_flags(features, platform.machine(), portable), *BUILD_OPTIONS)


RECIPE = Recipe(
    lock=HERE / "llamacpp.lock",
    wheel=OwnWheel("llama-cpp-python", HERE / "build.lock", flags),
    proof="llmservice_runtime.engines.llamacpp.install.check",
)
