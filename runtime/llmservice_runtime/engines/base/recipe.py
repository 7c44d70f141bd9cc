"""How an engine's environment is made. Data: `install` follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llmservice_runtime.machine.machine import Device

CUDA_COMPILER_ENV, CUDA_ARCHITECTURES_ENV = "CUDACXX", "CUDAARCHS"
"""CMake's own variables: the nvcc of a CUDA that is installed here, and kinds of GPUs (`86;89`) to build for where they
are not those of this machine."""


@dataclass(frozen=True, slots=True)
class OwnWheel:
    """A package of the lock that is built from its source distribution, for this machine's CPU."""

    package: str
    build_lock: Path
    """The build's tools, with hashes."""
    cmake_flags: Callable[[bool], tuple[str, ...]]
    """`-D` options for this machine; True = nothing newer than what most machines have."""
    toolkit: str = ""
    """What it is compiled with beside a C++ compiler: vulkan, cuda, or nothing."""
    toolkit_lock: Path | None = None
    """The toolkit as packages, with hashes; None = the machine has it, or there is none."""


@dataclass(frozen=True, slots=True)
class Slim:
    """The build of a layer for machines without a GPU: one wheel, in an index of its own that not everybody reaches."""

    lock: Path
    """That wheel's hashes, for each machine and Python that it exists for."""
    index: str
    """Its index (PEP 503)."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Packages that several engines have in common, stored once beside their environments.

    Their locks name them too, in the same versions; an environment gets the others.
    """

    name: str
    lock: Path
    slim: Slim | None = None


@dataclass(frozen=True, slots=True)
class DistInfo:
    """A distribution that is metadata alone: by its name a version is asked for, or plug-ins are found."""

    name: str
    version: str
    entry_points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Group -> name -> `module:attribute`."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A virtual environment of the engine's own, with locked packages."""

    lock: Path
    """Every package with its hashes."""
    wheel: OwnWheel | None = None
    proof: str = ""
    """Module that is run in the new environment: it exits 0 when the engine works there; empty = nothing to prove."""
    layers: tuple[Layer, ...] = ()
    dist_infos: tuple[DistInfo, ...] = ()
    startup: str = ""
    """A line of Python that every interpreter of the environment runs before all else; it begins with `import `."""
    compiles: bool = False
    """Whether it compiles kernels when it loads a model, with the machine's C++ compiler and Python's headers."""
    libraries: tuple[str, ...] = ()
    """Libraries of the system that its packages load and don't bring: libnuma.so.1."""
    devices: frozenset[Device] = frozenset()
    """What it runs on; empty = all that the engine is for."""
    cuda: Recipe | None = None
    """What is made instead where there is an NVIDIA GPU; None = this one is for every device."""
    asked: Mapping[str, Recipe] = field(default_factory=dict)
    """What is made only when a person asks for it, by its word on a command line: it needs tools that few machines
    have."""


@dataclass(frozen=True, slots=True)
class NoEnvironment:
    """It needs nothing beyond the runtime: it runs in the runtime's own environment and is always installed."""
