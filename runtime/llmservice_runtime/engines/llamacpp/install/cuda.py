"""NVIDIA's CUDA for llama.cpp: for which GPUs it is built, and the libraries that its build loads."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from llmservice_runtime.engines.base.recipe import CUDA_ARCHITECTURES_ENV
from llmservice_runtime.machine.probe import nvidia_gpus

LIBRARIES = ("libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13")
"""In an order in which each finds what it needs."""
_MODULE = "llmservice_runtime.engines.llamacpp.install.cuda"
STARTUP = f"import sys; __import__('{_MODULE}', fromlist=['load']).load()"
"""What interpreters of the environment run first."""


def architectures(environ: Mapping[str, str] | None = None) -> str:
    """As CMake wants them: told, else of this machine's GPUs; kernels for all there are take hours. Empty = no GPU."""
    told = (os.environ if environ is None else environ).get(CUDA_ARCHITECTURES_ENV, "")
    return told or ";".join(str(kind) for kind in sorted({gpu.capability for gpu in nvidia_gpus()}))


def load() -> None:
    """Load the libraries that lie in packages beside llama.cpp's: its own names them without saying where they are."""
    for name in LIBRARIES:
        places = (Path(folder) / "nvidia" / "cu13" / "lib" / name for folder in sys.path)
        if found := next((place for place in places if place.is_file()), None):
            ctypes.CDLL(str(found))
