"""LoRA adapters on the modules of a loaded model: what each adds to a module's output, for one adapter at a time.

Hooks, not other modules: the model stays as it was made, whatever its layers are (quantized ones too), and without an
adapter in use nothing is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.formats.lora import CONFIG, part_of, read_config

Parts = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Module -> its two matrices, the second with the scale in it."""


class Adapters:
    """Those of a model, by number. All but `reading` in the step thread."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._parts: dict[int, Parts] = {}
        self._made = 0
        self._hooks: list[Any] = []
        self._used = 0

    @contextmanager
    def reading(self, folder: Path) -> Iterator[Parts]:
        """What PEFT wrote, where the model computes. UserError when it is of another model."""
        yield self._read(folder)

    def add(self, parts: Parts) -> int:
        """One that was read; its number."""
        self._made += 1
        self._parts[self._made] = parts
        return self._made

    def _read(self, folder: Path) -> Parts:
        config = read_config((folder / CONFIG).read_bytes())
        found: dict[str, dict[str, torch.Tensor]] = {}
        for name, values in safetensors.torch.load_file(folder / config.weights).items():
            module, part = part_of(name)
            found.setdefault(module, {})[part] = values
        parts: Parts = {}
        for name, pair in found.items():
            if len(pair) != 2:
                raise _refused(f"{name} has one of its two matrices only", "Save the adapter again.")
            module = self._module(name)
            a, b = pair["A"], pair["B"]
            self._check(name, module, a, b)
            device, dtype = _home(module, self._model)
            scale = config.scale(name, a.shape[0])
            parts[name] = (a.to(device, dtype), (b.float() * scale).to(device, dtype))
        return parts

    def free(self, adapter: int) -> None:
        """Give one back."""
        if self._used == adapter:
            self.use(0)
        del self._parts[adapter]

    def use(self, adapter: int) -> None:
        """What the next pass computes with; 0 = the model itself."""
        if adapter == self._used:
            return
        for hook in self._hooks:
            hook.remove()
        parts = self._parts[adapter] if adapter else {}
        self._hooks = [
            self._model.get_submodule(name).register_forward_hook(_adding(*pair)) for name, pair in parts.items()
        ]
        self._used = adapter

    def _module(self, name: str) -> Any:
        try:
            return self._model.get_submodule(name)
        except AttributeError:
            raise _refused(
                f"it changes {name}, which this model has not", "Use an adapter of this very model."
            ) from None

    def _check(self, name: str, module: Any, a: torch.Tensor, b: torch.Tensor) -> None:
        inputs, outputs = (getattr(module, f"{side}_features", None) for side in ("in", "out"))
        if not isinstance(inputs, int) or not isinstance(outputs, int):
            raise _refused(f"it changes {name}, which is no linear layer", "Train it on linear layers alone.")
        if a.shape[-1] != inputs or b.shape[0] != outputs or a.shape[0] != b.shape[-1]:
            shapes = f"{name} is {inputs} x {outputs}, the adapter's {a.shape[-1]} x {b.shape[0]}"
            raise _refused(shapes, "Use an adapter of this very model.")


def _home(module: Any, model: Any) -> tuple[torch.device, torch.dtype]:
    """Where a module computes, and with what: its own weights may be packed."""
    weight = next(module.parameters(), None)
    return (weight.device if weight is not None else model.device), model.dtype


def _adding(a: torch.Tensor, b: torch.Tensor) -> Any:
    def hook(_module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        added = torch.nn.functional.linear(torch.nn.functional.linear(inputs[0].to(a.dtype), a), b)
        return output + added.to(output.dtype)

    return hook


def _refused(reason: str, remedy: str) -> UserError:
    return UserError(f"The adapter can't be used: {reason}.", remedy, FailureClass.UNSUPPORTED_FORMAT)
