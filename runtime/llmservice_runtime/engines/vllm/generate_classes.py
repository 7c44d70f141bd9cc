"""What classes of models tell once they are imported: whether they run as a pipeline, which states they keep."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import inspect
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


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
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
    """Architectures whose classes implement `SupportsPP`."""
    from vllm.model_executor.models.interfaces import supports_pp

    return (name for name, implementation in _classes(registry) if supports_pp(implementation))


def adapted(registry: Any) -> Iterator[str]:
    """Architectures whose classes implement `SupportsLoRA`."""
    from vllm.model_executor.models.interfaces import supports_lora

    return (name for name, implementation in _classes(registry) if supports_lora(implementation))


def checkpointed(registry: Any) -> Iterator[str]:
    """Architectures with recurrent states and layers that ask for one more of them while a prompt is read."""
    for name, implementation in _classes(registry):
        if hasattr(implementation, "get_mamba_state_shape_from_config") and _asks(implementation.__module__, 2):
            yield name


def _asks(module: str, depth: int) -> bool:
    """Whether classes that a module has at hand say so, or those that the modules of these have."""
    classes = {one for name in _beside(module) for one in vars(sys.modules[name]).values() if inspect.isclass(one)}
    vllms = [one for one in classes if str(one.__module__).startswith("vllm.model")]
    if any("num_prefill_checkpoint_blocks" in _source(vars(one).get("get_kv_cache_spec")) for one in vllms):
        return True
    models = {one.__module__ for one in vllms if hasattr(one, "get_mamba_state_shape_from_config")} - {module}
    return depth > 1 and any(_asks(other, depth - 1) for other in models)


def _beside(module: str) -> list[str]:
    """A module, or all of the package that a family has to itself."""
    package = ".".join(module.split(".")[:3]) if module.startswith("vllm.models.") else module
    return [name for name in list(sys.modules) if name == package or name.startswith(f"{package}.")]


def _source(method: Any) -> str:
    return inspect.getsource(method) if inspect.isfunction(method) else ""


def _classes(registry: Any) -> Iterator[tuple[str, Any]]:
    """Architectures of the registry with their classes. A class that can't be imported here says nothing."""
    if not any(isinstance(finder, StandIns) for finder in sys.meta_path):
        sys.meta_path.append(StandIns())
    for name, model in registry.ModelRegistry.models.items():
        try:
            yield name, model.load_model_cls()
        except (ImportError, AttributeError, TypeError) as error:
            sys.stderr.write(f"what {name} can do is not known: {error}\n")
