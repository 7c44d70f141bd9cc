"""The proof that vLLM works in its environment: it and its server can be imported, and it knows version and device.

Run in the new environment. What was imported is compiled then, so that the first start is no slower than others.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version

MODULES = ("torch", "vllm", "vllm.entrypoints.cli.main", "vllm.entrypoints.openai.api_server", "vllm.v1.engine.core")


def main() -> None:
    """ImportError names what is missing."""
    for name in MODULES:
        importlib.import_module(name)
    from vllm.platforms import current_platform

    found = version("vllm")
    assert current_platform.device_type, f"vLLM {found} finds no device that it is built for"


if __name__ == "__main__":
    main()
