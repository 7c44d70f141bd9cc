"""Which engines are installed on this machine, where, and for what. Cheap to ask: nothing that installs is imported."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines import registry
from llmservice_runtime.engines.base.recipe import NoEnvironment, Recipe
from llmservice_runtime.machine.machine import Device

ENGINES_ENV = "LLMSERVICE_ENGINES_DIR"
STAMP = "engine.json"
DONE = "complete"
"""In a layer that is whole."""


def engines_dir(environ: Mapping[str, str] | None = None) -> Path:
    """LLMSERVICE_ENGINES_DIR, else `engines` beside the environment this program runs in."""
    env = os.environ if environ is None else environ
    if folder := env.get(ENGINES_ENV):
        return Path(folder).expanduser().absolute()
    return Path(sys.prefix) / "engines"


def engine_python(engine: EngineType) -> Path:
    """The interpreter of an installed engine; UserError (EngineNotInstalled) says how to install it."""
    folder = engines_dir() / engine.folder
    if stamped(folder) is not None:
        return folder / "bin" / "python"
    if recipe_of(engine) is None:
        return Path(sys.executable)
    raise UserError(
        f"The engine {engine.value} is not installed in {folder}.",
        f"Install it with: {install_command(engine)}",
        FailureClass.ENGINE_NOT_INSTALLED,
    )


def install_command(engine: EngineType) -> str:
    """What a person types to install it; empty = this release has no environment for it."""
    return f"llmservice-runtime install {engine.folder}" if registry.definition(engine).recipe else ""


def installed_engines() -> dict[EngineType, bool]:
    """Every engine of the API, and whether it can run here now."""
    return {engine: _installed(engine) for engine in EngineType}


def _installed(engine: EngineType) -> bool:
    recipe = registry.definition(engine).recipe
    if not isinstance(recipe, Recipe):
        return isinstance(recipe, NoEnvironment)
    return stamped(engines_dir() / engine.folder) is not None


def installed_devices(engine: EngineType) -> frozenset[Device]:
    """What the environment that stands here can run on; of one that is not installed, what it can be made for."""
    made = (stamped(engines_dir() / engine.folder) or {}).get("devices", ())
    return frozenset(map(Device, made)) or registry.definition(engine).devices


def recipe_of(engine: EngineType) -> Recipe | None:
    """None = it needs no environment of its own. UserError when this release has none for it."""
    recipe = registry.definition(engine).recipe
    if recipe is None:
        raise UserError(
            f"This release has no environment for the engine {engine.value}.",
            "Choose a model that an installed engine runs (llmservice engines says which), or leave engine.type out.",
            FailureClass.ENGINE_NOT_INSTALLED,
        )
    return None if isinstance(recipe, NoEnvironment) else recipe


def stamped(folder: Path) -> dict[str, Any] | None:
    """The stamp of an environment that is whole, with its layers; None where there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / STAMP).read_text())
        parts = [folder.parent / name for name in found.get("layers", ())]
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    whole = (folder / "bin" / "python").exists() and all((part / DONE).is_file() for part in parts)
    return found if whole else None
