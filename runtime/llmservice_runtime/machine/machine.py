"""What a model could run on: CPU, memory, GPUs and the engines that are there. A value; nothing is read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from llmservice_runtime.contract.engines import EngineType


class Device(StrEnum):
    """A kind of processor that an engine can be built for."""

    CPU = "CPU"
    NVIDIA = "NVIDIA"
    AMD = "AMD"
    INTEL = "Intel"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: product name, usable memory in bytes, and compute capability times ten (SM 8.9 = 89; 0 = not NVIDIA).

    Two of a kind are equal; what tells one from the other is not compared.
    """

    product: str
    vendor: Device
    memory_bytes: int
    capability: int = 0
    id: str = field(default="", compare=False)
    """By which all programs know it: the driver's UUID, else its number; empty = one that is only thought of."""
    index: int | None = field(default=None, compare=False)
    """As nvidia-smi counts; None = it is not in that list."""
    vulkan: int | None = field(default=None, compare=False)
    """As Vulkan's loader counts; None = it is not in that list, or that was not asked."""
    free_bytes: int | None = field(default=None, compare=False)
    """What no program has now; None = the driver does not tell."""
    bandwidth: int = field(default=0, compare=False)
    """Bytes of its memory that it reads in a second, as its maker publishes it; 0 = not known."""

    @property
    def name(self) -> str:
        """`GPU 0`, as people call it on its machine."""
        number = self.index if self.index is not None else self.vulkan
        return f"GPU {self.id if number is None else number}"


@dataclass(frozen=True, slots=True)
class EngineBuild:
    """An engine as it stands on a machine: which devices its build uses, and whether it is installed.

    `install` is the sentence for when it is not: the command, or that there is none and what to run instead.
    """

    engine: EngineType
    devices: frozenset[Device]
    installed: bool = True
    install: str = ""
    gpu_builds: Mapping[Device, str] = field(default_factory=dict, hash=False)
    """How to get a build for a device that this one is not for, as a sentence."""


GPU_DEVICES = frozenset({Device.NVIDIA, Device.AMD, Device.INTEL})

ALL_BUILDS = tuple(EngineBuild(engine, frozenset(Device)) for engine in EngineType)
"""Every engine, installed, for every device: the default of a machine whose engines are not known."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine (or one kind of node). Memory in bytes; `memory_available` is what a new service may take now.

    `exact` is false when facts are missing (a node pool scaled to zero): what does not fit is then Unknown.
    """

    cpus: int
    memory_bytes: int
    memory_available: int
    cpu_flags: frozenset[str] = frozenset()
    architecture: str = "x86_64"
    gpus: tuple[Gpu, ...] = ()
    builds: tuple[EngineBuild, ...] = field(default=ALL_BUILDS)
    exact: bool = True
    others: tuple[Gpu, ...] = ()
    """GPUs of it that other services have; they are not among `gpus`."""
    bandwidth: int = 0
    """Bytes of host memory that its CPUs read in a second, all together; 0 = not known."""
    cache_bytes: int = 0
    """Of the caches that its CPUs share."""

    def build(self, engine: EngineType) -> EngineBuild:
        """The machine's build of an engine; one that is built for nothing when the machine has none."""
        return next((b for b in self.builds if b.engine is engine), EngineBuild(engine, frozenset(), installed=False))

    def with_gpu_memory(self, each: int | None) -> Machine:
        """The same machine whose GPUs have `each` bytes; None = what they have."""
        return self if each is None else replace(self, gpus=tuple(replace(gpu, memory_bytes=each) for gpu in self.gpus))

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that decides what runs: of mixed GPUs the kind with the most memory in total; None = no GPU."""
        kinds: dict[Gpu, int] = {}
        for gpu in self.gpus:
            kinds[gpu] = kinds.get(gpu, 0) + gpu.memory_bytes
        return max(kinds, key=lambda gpu: kinds[gpu]) if kinds else None

    @property
    def no_gpu(self) -> str:
        """Why there is no GPU, where there is none."""
        return "other services take every GPU" if self.others else "this machine has no GPU that it can see"

    @property
    def gpu_count(self) -> int:
        """How many GPUs of that kind there are: only equal ones can share a model."""
        return self.gpus.count(self.gpu) if self.gpu else 0
