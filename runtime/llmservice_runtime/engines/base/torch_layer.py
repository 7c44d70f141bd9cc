"""PyTorch, which the engines that need it share: locked once, stored once."""

from __future__ import annotations

from pathlib import Path

from llmservice_runtime.engines.base.recipe import Layer, Slim

HERE = Path(__file__).parent
TORCH = Layer(
    "torch",
    lock=HERE / "torch.lock",  # with CUDA's libraries, without which it can't be imported
    slim=Slim(HERE / "torch-cpu.lock", "https://download.pytorch.org/whl/cpu"),
)
