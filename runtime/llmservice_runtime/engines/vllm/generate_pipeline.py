"""Which architectures vLLM can run as a pipeline: their classes implement `SupportsPP`, as importing them tells."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

ABSENT = frozenset({"timm", "torchvision", "torchaudio", "terratorch"})
"""Packages for pictures and sound that models import and the locked environment does not have."""


class _AnyType(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyType(name, (), {})


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules of absent packages, whose every name is an empty class: what a class says of itself needs no more."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        absent = fullname.partition(".")[0] in ABSENT
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if absent else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module: Any = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: getattr(_AnyType, name) if name.startswith("__") else _AnyType(name, (), {})
        return module  # type: ignore[no-any-return]

    def exec_module(self, module: types.ModuleType) -> None:
        return None


def pipelined(registry: Any) -> Iterator[str]:
    """Architectures of the registry that say so. A class that can't be imported here says nothing."""
    from vllm.model_executor.models.interfaces import supports_pp

    sys.meta_path.append(_StandIns())
    for name, model in registry.ModelRegistry.models.items():
        try:
            implementation = model.load_model_cls()
        except (ImportError, AttributeError, TypeError) as error:
            sys.stderr.write(f"whether {name} can be a pipeline is not known: {error}\n")
            continue
        if supports_pp(implementation):
            yield name
