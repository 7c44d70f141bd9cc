"""One question of the selector: may this engine run this model on this device?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llmservice_runtime.formats.facts import ModelFacts, ModelFormat
from llmservice_runtime.machine.machine import GPU_DEVICES, Device, Gpu, Machine

TAKES_PICTURES = "Chats take pictures"
"""How the note begins of an engine that sees what the model can."""


def takes_pictures(notes: Iterable[str]) -> bool:
    """As a plan's notes say."""
    return any(note.startswith(TAKES_PICTURES) for note in notes)


@dataclass(frozen=True, slots=True)
class Loading:
    """How weights are to be loaded, as a spec says it."""

    quantization: str = ""
    """What they are made while they are loaded, of `contract.bounds.LOAD_QUANTIZATIONS`; empty = as they are stored."""
    remote_code: bool = False
    """Whether code that comes with the model may run."""


AS_STORED = Loading()


@dataclass(frozen=True, slots=True)
class Case:
    """A model on one device of a machine; `gpu` is None on the CPU."""

    facts: ModelFacts
    machine: Machine
    device: Device
    gpu: Gpu | None = None
    loading: Loading = AS_STORED

    @property
    def architecture(self) -> str:
        """As a sentence may say it: a stranger's repository names it. Empty = not known."""
        return self.facts.architecture[:80]

    @property
    def architectures(self) -> tuple[str, ...]:
        """All that the checkpoint names, the first first; empty = none, or not known."""
        names = (self.facts.architecture, *self.facts.other_architectures) if self.architecture else ()
        return tuple(name[:80] for name in names)

    @property
    def method(self) -> str:
        """Quantization method in the table's spelling; empty = not quantized."""
        quantization = self.facts.quantization
        return quantization.method.lower().replace("_", "-") if quantization else ""

    @property
    def scheme(self) -> str:
        """Sub-format of the quantization in lower case; empty = none stated."""
        quantization = self.facts.quantization
        return (quantization.scheme or quantization.name).lower() if quantization else ""

    @property
    def bits(self) -> float:
        """Nominal bits per weight; 0 = not quantized."""
        return self.facts.quantization.bits if self.facts.quantization else 0

    @property
    def capability(self) -> int:
        """SM times ten; 0 = not an NVIDIA GPU."""
        return self.gpu.capability if self.gpu else 0

    @property
    def weights(self) -> str:
        """The weights as a sentence names them: `Q4_K_M`, `BF16 weights` or `BF16 weights, made FP8 while loading,`."""
        if self.facts.quantization:
            return self.facts.quantization.name
        made = f", made {self.loading.quantization} while loading," if self.loading.quantization else ""
        return f"{self.facts.dtype} weights{made}"

    @property
    def runs_own_code(self) -> bool:
        """Whether the repository brings classes of its own, and they may run."""
        return self.facts.remote_code and self.loading.remote_code

    @property
    def on_nvidia(self) -> bool:
        """Whether compute capabilities apply."""
        return self.device is Device.NVIDIA

    @property
    def where(self) -> str:
        """The device as a sentence names it: `Tesla T4 (SM 7.5)` or `the CPU`."""
        if self.gpu is None:
            return "the CPU"
        return f"{self.gpu.product} (SM {sm(self.capability)})" if self.capability else self.gpu.product


Rule = Callable[[Case], str | None]
"""A reason why the engine can't, as a sentence; None = nothing against it."""


def sm(capability: int) -> str:
    """`75` -> `7.5`."""
    return f"{capability // 10}.{capability % 10}"


def first_objection(rules: Iterable[Rule], case: Case) -> str | None:
    """The first reason against, in the order of the rules; None = it runs."""
    return next((reason for rule in rules if (reason := rule(case))), None)


def is_gguf(case: Case) -> bool:
    """Whether the weights are a GGUF."""
    return case.facts.format is ModelFormat.GGUF


def preferred_for_throughput(facts: ModelFacts, device: Device) -> bool:
    """Whether many requests at a time, or kernels for quantized weights, count more than little memory."""
    quantized = facts.quantization is not None and facts.quantization.method != "bitsandbytes"
    return device in GPU_DEVICES or quantized
