"""What engines on PyTorch compile and fetch while they start, and where: below one folder that outlives the process.

The names are those that the packages' own code reads: torch (2.13: inductor, hub, extensions), Triton (knobs.py),
numba, huggingface_hub, tvm_ffi; of what only GPU builds have: FlashInfer, and the JIT cache of NVIDIA's driver.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

Caches = Mapping[str, str]
"""Environment variable -> a folder of its own."""

TORCH: Caches = {
    "XDG_CACHE_HOME": "xdg",
    "XDG_CONFIG_HOME": "config",
    "TORCH_HOME": "torch",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "extensions",
    "TRITON_HOME": "triton",
    "NUMBA_CACHE_DIR": "numba",
    "HF_HOME": "huggingface",
    "TVM_FFI_CACHE_DIR": "tvm-ffi",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "CUDA_CACHE_PATH": "cuda",
}


def cache_key(made_from: str, cpu_flags: Iterable[str]) -> str:
    """Of what compiled code depends on beyond what its makers look at (versions, GPUs, the model): the engine's
    environment, given as text, and this CPU's instructions, since host code is compiled for the machine at hand."""
    return hashlib.sha256("\0".join((made_from, *sorted(cpu_flags))).encode()).hexdigest()[:16]


def cache_environment(caches: Caches, folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that lead below `folder`; those that `environ` has already stay as they are."""
    return {name: str(folder / part) for name, part in caches.items() if not environ.get(name)}
