"""The proof that vLLM works in its environment: it and its server can be imported, it knows version and device, and its
kernels for CPUs are there.

Run in the new environment. What serving imports is compiled then, so that the first start is no slower than others.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version

from llmservice_runtime.engines.base.bytecode import SERVER, compile_packages

MODULES = ("torch", "vllm", "vllm.entrypoints.cli.main", "vllm.entrypoints.openai.api_server", "vllm.v1.engine.core")
PACKAGES = (
    "vllm", "compressed_tensors", "fastapi", "httptools", "jmespath", "loguru", "model_hosting_container_standards",
    "prometheus_fastapi_instrumentator", "pydantic", "uvicorn", "websockets",
)  # fmt: skip
"""What its servers and workers import later than that."""

KERNEL = "silu_and_mul"
"""One that every build has."""


def main() -> None:
    """ImportError names what is missing; of kernels vLLM's own warning does."""
    compile_packages((*PACKAGES, *SERVER))
    for name in MODULES:
        importlib.import_module(name)
    import torch
    from vllm.platforms import current_platform

    found = version("vllm")
    # The build for GPUs knows its device, and loads its kernels, where there is one; images are made elsewhere, too.
    known = current_platform.device_type or not torch.cuda.is_available()
    assert known, f"vLLM {found} finds no device that it is built for"
    if current_platform.is_cpu():
        current_platform.import_kernels()
        assert hasattr(torch.ops._C, KERNEL), f"vLLM {found} can't load its kernels for this CPU"


if __name__ == "__main__":
    main()
