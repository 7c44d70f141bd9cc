"""Imports llama_cpp without its high-level API: 30 ms of processor time instead of 175, of a start of a second."""

from __future__ import annotations

import importlib
import importlib.util
import sys


def import_llama_cpp() -> None:
    """Make `import llama_cpp` give llama.cpp's C functions and nothing else, in a process that needs nothing else."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or "llama_cpp" in sys.modules:
        return
    package = importlib.util.module_from_spec(spec)
    sys.modules["llama_cpp"] = package
    functions = importlib.import_module("llama_cpp.llama_cpp")
    # As its __init__ does with the functions, before it goes on to the rest.
    vars(package).update({name: value for name, value in vars(functions).items() if not name.startswith("_")})
