"""How the Transformers environment is made: its lock, and the torch it shares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmservice_runtime.engines.base.recipe import Recipe
from llmservice_runtime.engines.base.torch_layer import TORCH
from llmservice_runtime.machine.machine import Device

QUANTIZERS = frozenset({"accelerate", "bitsandbytes", "compressed_tensors", "torchao", "triton"})
"""Packages for methods of quantization that the environment has, as Python imports them.

gptqmodel is not among them: no index has it built, and what it needs is compiled against PCRE2's headers.
"""

_CUDA = Recipe(
    lock=Path(__file__).parent / "transformers.lock",
    proof="llmservice_runtime.engines.transformers.install.check",
    layers=(replace(TORCH, slim=None),),
    devices=frozenset({Device.CPU, Device.NVIDIA}),
)
RECIPE = replace(_CUDA, layers=(TORCH,), devices=frozenset({Device.CPU}), cuda=_CUDA)
