"""The proof that Transformers works in its environment: all that serving needs can be imported, and torch computes.

Run in the new environment. What serving imports is compiled then, so that the first start is no slower than others.
"""

from __future__ import annotations

import importlib

from llmservice_runtime.engines.base.bytecode import SERVER, compile_packages

MODULES = (
    "transformers.generation.continuous_batching",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "accelerate",
    "bitsandbytes",
    "compressed_tensors",
    "torchao",
    "sentencepiece",
    "tiktoken",
    "llguidance.torch",
)


def main() -> None:
    """ImportError names what is missing."""
    compile_packages(SERVER)
    import torch

    assert torch.ones(2, 2).matmul(torch.ones(2, 2)).sum() == 8
    for name in MODULES:
        importlib.import_module(name)


if __name__ == "__main__":
    main()
