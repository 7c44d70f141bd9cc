"""From an engine's name to its folder: the only place that looks there. A folder is read when it is asked for."""

from __future__ import annotations

from collections import ChainMap
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from llmservice_runtime.contract.engines import EngineType

if TYPE_CHECKING:  # a supervisor looks here when it starts, and needs no definition before its engine fails
    from llmservice_runtime.engines.base.definition import EngineDefinition
    from llmservice_runtime.formats.classes import Classes


@cache
def definition(engine: EngineType) -> EngineDefinition:
    """`ENGINE` of the engine's `definition` module."""
    found: EngineDefinition = import_module(f"{_package(engine)}.definition").ENGINE
    return found


@cache
def config_classes() -> Classes:
    """What all engines know of config classes. One that several have is read as the first of them has it."""
    return ChainMap(*(dict(definition(engine).config_classes()) for engine in EngineType))


def reads_gguf(engine: EngineType | None) -> bool | None:
    """What an engine that was asked for (None = none) means for a repository that has GGUF and other weights, as
    `inspect_model` takes it."""
    return definition(engine).gguf if engine is not None else None


def label(engine: EngineType) -> str:
    """The engine as people write it."""
    return definition(engine).label


def process_module(engine: EngineType) -> str:
    """What `python -m` runs in the engine's environment to serve: `--settings FILE` names the RuntimeSettings."""
    return f"{_package(engine)}.serve"


def _package(engine: EngineType) -> str:
    return f"llmservice_runtime.engines.{engine.folder}"
