"""How an engine's environment is made. Data: `install` follows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OwnWheel:
    """A package of the lock that is built from its source distribution, for this machine's CPU."""

    package: str
    build_lock: Path
    """The build's tools, with hashes."""
    cmake_flags: Callable[[bool], tuple[str, ...]]
    """`-D` options for this machine; True = nothing newer than what most machines have."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A virtual environment of the engine's own, with locked packages."""

    lock: Path
    """Every package with its hashes."""
    wheel: OwnWheel | None = None
    proof: str = ""
    """Module that is run in the new environment: it exits 0 when the engine works there; empty = nothing to prove."""


@dataclass(frozen=True, slots=True)
class NoEnvironment:
    """It needs nothing beyond the runtime: it runs in the runtime's own environment and is always installed."""
