"""The engines of this release as they stand on this machine: what each is built for, and how to get it."""

from __future__ import annotations

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.install.environment import install_command, installed_devices, installed_engines
from llmservice_runtime.machine.machine import GPU_DEVICES, EngineBuild


def builds_here() -> tuple[EngineBuild, ...]:
    """Every engine, with the sentence that says how to install it where it is not."""
    return tuple(
        EngineBuild(engine, installed_devices(engine), installed, "" if installed else _install(engine))
        for engine, installed in installed_engines().items()
    )


def can_be_installed(engine: EngineType) -> bool:
    """Whether `llmservice install` brings it."""
    return bool(install_command(engine))


def builds_elsewhere() -> tuple[EngineBuild, ...]:
    """Engines of a machine that is not this one: nothing is known of what is installed there. A build for its GPUs can
    be made."""
    return tuple(EngineBuild(engine, definition(engine).devices | GPU_DEVICES) for engine in EngineType)


def _install(engine: EngineType) -> str:
    if install_command(engine):
        return f"Install it with: llmservice install {engine.folder}"
    return "This release can't install it on one machine."
