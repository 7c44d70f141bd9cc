"""Which GPUs a process sees: what its environment says of it, and what that has to be so that it sees some alone. Pure.

Numbers are those of nvidia-smi and of Vulkan's loader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from llmservice_runtime.machine.machine import Device, Gpu

VISIBLE_ENV = "GGML_VK_VISIBLE_DEVICES"
"""By which llama.cpp is told which devices to take, also such as it would not take by itself."""
CUDA_ENV = "CUDA_VISIBLE_DEVICES"
ORDER_ENV = "CUDA_DEVICE_ORDER"
"""CUDA counts as nvidia-smi does where it is told to, else the fastest first."""
SLICE = "MIG-"
"""A part of a GPU: nobody but the user can say which; what the user said is then left as it is."""


def seen(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Those that a process with this environment sees, in the order of its list where it has one. As CUDA has it, a
    list ends where it names none."""
    left = list(gpus)
    for name, find in _FIND.items():
        text = environ.get(name)
        if text is None or SLICE in text or not (mine := [gpu for gpu in left if _is_of(name, gpu)]):
            continue
        listed: list[Gpu] = []
        for word in _words(text):
            gpu = find(mine, word)
            if gpu is None or gpu.id in {other.id for other in listed}:
                break
            listed.append(gpu)
        left = [*listed, *(gpu for gpu in left if not _is_of(name, gpu))]
    return tuple(left)


def unknown(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> tuple[str, str] | None:
    """(variable, word) of the first word that names none of these; None = all do, or there is nothing to name."""
    for name, find in _FIND.items():
        mine, text = [gpu for gpu in gpus if _is_of(name, gpu)], environ.get(name, "")
        if not mine or SLICE in text:
            continue
        for word in _words(text):
            if word != "-1" and find(mine, word) is None:
                return name, word
    return None


def lists(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The variables in it that say what is seen."""
    return tuple(name for name in _FIND if name in environ)


def alone(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> dict[str, str]:
    """What to add to an environment so that its process sees these GPUs and no other."""
    added = {}
    if SLICE in environ.get(CUDA_ENV, ""):
        return {}
    if all(gpu.vendor is Device.NVIDIA for gpu in gpus):
        by_id = all(gpu.id.startswith("GPU-") for gpu in gpus)
        added[CUDA_ENV] = ",".join(gpu.id if by_id else str(gpu.index) for gpu in gpus)
        if not by_id:
            added[ORDER_ENV] = "PCI_BUS_ID"
    if all(gpu.vulkan is not None for gpu in gpus):
        added[VISIBLE_ENV] = ",".join(str(gpu.vulkan) for gpu in gpus)
    return added


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _is_of(name: str, gpu: Gpu) -> bool:
    """Whether a variable says anything of a GPU."""
    return gpu.vendor is Device.NVIDIA if name == CUDA_ENV else gpu.vulkan is not None


def _by_cuda(gpus: Sequence[Gpu], word: str) -> Gpu | None:
    """By its number, or by what its UUID begins with."""
    if word.isdigit():
        return next((gpu for gpu in gpus if gpu.index == int(word)), None)
    return next((gpu for gpu in gpus if gpu.id.lower().startswith(word.lower())), None) if word[:1].isalpha() else None


def _by_vulkan(gpus: Sequence[Gpu], word: str) -> Gpu | None:
    return next((gpu for gpu in gpus if word.isdigit() and gpu.vulkan == int(word)), None)


_FIND: dict[str, Callable[[Sequence[Gpu], str], Gpu | None]] = {CUDA_ENV: _by_cuda, VISIBLE_ENV: _by_vulkan}
