"""From a GPU's name, as drivers, node labels and people spell it, to its memory and compute capability.

Nothing is guessed: a word that is not understood makes the name unknown, for it may stand for another part (Laptop, D,
NVL), and of a product that comes in several sizes the name must say which. A machine that can be asked is asked; names
are for planning for another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.machine.gpu_speeds import SPEEDS
from llmservice_runtime.machine.gpu_table import AMD, INTEL, NVIDIA, NVIDIA_LAPTOP
from llmservice_runtime.machine.machine import Device, Gpu

_MIB = 1 << 20
WAY_OUT = "say what each has: --gpu-memory 24Gi, in a manifest accelerator.memory"

_SHORT = {
    "h100": "H100-80GB", "h200141gb": "H200", "titanxpascal": "Titan-X-Pascal", "rtx8000": "Quadro-RTX-8000",
    "rtxa6000ada": "RTX-6000-Ada", "mi250xmi250": "MI250X", "h100nvl94gb": "H100-NVL", "jetsonthor": "Jetson-AGX-Thor",
    "h203e": "H20-141GB",
}  # fmt: skip
"""Names of people and labels that the table lacks; a bare H100 has 80 GB, the others say theirs."""

_GKE = {"nvidia-tesla-a100": "A100-40GB", "nvidia-tesla-v100": "V100-16GB", "nvidia-tesla-p100": "P100-16GB"}
"""Short names of GKE's label, where those of other sizes have another name."""

ASSUMED_CAPABILITY = 80
"""Of an NVIDIA GPU that nobody knows."""
_MAKERS = {Device.AMD: {"amd", "radeon", "instinct"}, Device.INTEL: {"intel", "arc"}}

_SIZE = re.compile(r"(\d+)(?:gb|gib|g)")
_MEANINGLESS = re.compile(
    r"nvidia|corporation|tesla|geforce|gpus?|graphics|accelerators?|generation|gen|edition|server|workstation|blackwell"
    r"|ampere|hopper|amd|ati|advanced|micro|devices|inc|instinct|radeon|intel|r|tm|data|center|datacenter|shared|mega"
    r"|sxm\d?|pcie?\d?|hbm\d?e?|gddr\d?x?|oam|nvl\d+|dgxs|fhhl|passive|active|vf|hf|ac|dual|slot|with|design|platform|gpu"
    r"|mcm|mba|collectors"
)
"""Words that tell no two products apart: makers, families, how a card is built in."""
_LAPTOP = frozenset({"laptop", "mobile", "notebook"})
_MIG = re.compile(r"^(?P<product>.+?)[-_ ]mig[-_ ](?:\d+c\.)?\d+g\.(?P<gb>\d+)gb(?:[.+][a-z.+]*)?(?:-shared)?$")
_VGPU = re.compile(r"^(?P<product>.*?)(?:-\d)?-(?P<gb>\d+)[abcq](?:me)?$")
_VGPU_PARTS = ("", "d", "dx", "l", "xm", "x", "s")
"""What vGPU names add to a product: A100D is the one with 80 GB."""
_MIG_PARTS = {"A100-40GB": 95, "A100-80GB": 95, "A30": 95, "H100-80GB": 95}
"""Percent of the GiB in a slice's name that it shows (1g.10gb of an A100: 9728 MiB); 88 for all others."""
_CLOSE = 0.08
"""By which a size on the box may differ from what the driver reports (L4: 24 and 22.5)."""
_SLICES = 8
"""Parts that a GPU's memory is sliced in, each read as fast as the others (MIG)."""


class UnknownGpu(UserError):
    """No such product, or several; the remedy names the nearest ones. `like` are products that it could be."""

    def __init__(self, reason: str, remedy: str, like: tuple[Gpu, ...] = ()) -> None:
        super().__init__(reason, remedy)
        self.like = like


@dataclass(frozen=True, slots=True)
class _Name:
    """What is left of a name: words that tell products apart, whether it is a laptop's, a size in GB (0 = none)."""

    words: str
    laptop: bool
    size: int
    bare: bool
    """Whether nothing else was in it: no maker, no family."""


def find_gpu(name: str, memory_bytes: int | None = None) -> Gpu:
    """The GPU of that name: `NVIDIA-A100-SXM4-80GB`, `Tesla T4`, `rtx4090`, a MIG slice or a vGPU (`GRID A100-10C`).

    `memory_bytes` is what the user says each has; it wins, and makes do for any name. Without it, UnknownGpu where the
    name is of no known product or of several.
    """
    try:
        found = _part(name.lower().strip()) or _whole(name)
    except UnknownGpu as error:
        if memory_bytes is None:
            raise
        return unknown_gpu(name, memory_bytes, error)
    return found if memory_bytes is None else replace(found, memory_bytes=memory_bytes)


def imagined_gpu(name: str, memory_bytes: int | None = None) -> Gpu:
    """As find_gpu, for a machine that is only thought of: a bare short name (`A100`, `RTX-3080`) means the smallest of
    its sizes, which the plan then names. What a driver prints is of one that exists, and not guessed."""
    try:
        return find_gpu(name, memory_bytes)
    except UnknownGpu:
        asked = _read(name)
        of = _catalogue().get((asked.words, False)) or _catalogue().get((f"rtx{asked.words}", False))
        if of is None or asked.laptop or asked.size or not asked.bare:
            raise
        return min((gpu for _, gpu in of), key=lambda gpu: gpu.memory_bytes)


def unknown_gpu(name: str, memory_bytes: int, error: UnknownGpu) -> Gpu:
    """A GPU whose name says too little. Its maker and capability are those of products of that name, if there are any;
    else those of what data centers have had for years."""
    if error.like:
        sized = [gpu.bandwidth for gpu in error.like if _is_size(memory_bytes >> 30, gpu)]
        found = min(error.like, key=lambda gpu: gpu.capability)
        return replace(found, product=name, memory_bytes=memory_bytes, bandwidth=max(sized, default=0))
    words = set(re.split(r"[^a-z]+", name.lower()))
    vendor = next((vendor for vendor, own in _MAKERS.items() if own & words), Device.NVIDIA)
    return Gpu(name, vendor, memory_bytes, ASSUMED_CAPABILITY if vendor is Device.NVIDIA else 0)


def all_gpus() -> tuple[Gpu, ...]:
    """Every product once, smallest memory first."""
    found = dict.fromkeys(gpu for gpus in _catalogue().values() for _, gpu in gpus)
    return tuple(sorted(found, key=lambda gpu: (gpu.memory_bytes, gpu.product)))


def _part(name: str) -> Gpu | None:
    """A slice or a virtual GPU: its name says what it has. Drivers keep a little of it."""
    if slice_ := _MIG.match(name):
        whole, size = _sliced(slice_["product"]), int(slice_["gb"])
        usable = min(whole.memory_bytes, size * 1024 * _MIG_PARTS.get(whole.product, 88) // 100 * _MIB)
        parts = max(1, round(_SLICES * (size << 30) / whole.memory_bytes))
        bandwidth = whole.bandwidth * min(parts, _SLICES) // _SLICES
        return replace(whole, product=f"{whole.product}-MIG-{size}GB", memory_bytes=usable, bandwidth=bandwidth)
    virtual = _VGPU.match(name.replace(" ", "-").replace("_", "-"))
    if virtual is None:
        return None
    for part in _VGPU_PARTS:
        base = _read(virtual["product"].removeprefix("grid-").removesuffix("-dc").removesuffix(part)).words
        if of := _catalogue().get((base, False)) or _catalogue().get((f"quadro{base}", False)):
            usable = int(virtual["gb"]) * 1024 * 94 // 100 * _MIB
            product = virtual[0].removeprefix("nvidia-").upper()
            return replace(of[-1][1], product=product, memory_bytes=usable, bandwidth=0)  # others read it too
    return None


def _sliced(name: str) -> Gpu:
    """What a slice is of; of which size that is says nothing of the slice."""
    try:
        return _whole(name)
    except UnknownGpu as error:
        if not error.like:
            raise
        return max(error.like, key=lambda gpu: gpu.memory_bytes)


def _whole(name: str) -> Gpu:
    asked = _read(_GKE.get(name, name))
    for words in (asked.words, f"rtx{asked.words}", asked.words.removeprefix("quadro")):
        if not (of := _catalogue().get((words, asked.laptop), ())):
            continue
        fit = [gpu for size, gpu in of if size == asked.size] or [gpu for _, gpu in of if _is_size(asked.size, gpu)]
        if not asked.size:
            fit = [gpu for size, gpu in of if not size] or [gpu for _, gpu in of]
        if fit and (asked.size or len(fit) == 1):
            return _board(name, fit[0])
        raise _several(name, [gpu for _, gpu in of], asked.size)
    lines = (f"quadro{asked.words}", f"{asked.words}ada", asked.words.replace("rtx", "rtxpro"))
    if like := [gpu for words in lines for _, gpu in _catalogue().get((words, asked.laptop), ())]:
        raise _several(name, like, asked.size)
    raise _none(name, asked)


def _board(name: str, gpu: Gpu) -> Gpu:
    """The same, where its name tells that it is the slower board of two."""
    slower = _speeds().get(f"{gpu.product}-PCIe") if "pcie" in name.lower() else None
    return replace(gpu, bandwidth=slower) if slower else gpu


def bandwidth_of(name: str, memory_bytes: int) -> int:
    """Bytes a second of the GPU that a driver calls so; 0 = not known."""
    return find_gpu(name, memory_bytes).bandwidth


def _is_size(asked: int, gpu: Gpu) -> bool:
    """Whether a box with so many GB on it holds what the driver reports."""
    return asked > 0 and abs(gpu.memory_bytes / (1 << 30) / asked - 1) < _CLOSE


def _several(name: str, gpus: Sequence[Gpu], size: int) -> UnknownGpu:
    names = " or ".join(gpu.product for gpu in gpus)
    sizes = " or ".join(dict.fromkeys(f"{gpu.memory_bytes / (1 << 30):.0f}" for gpu in gpus))
    wrong = f"has {size} GB, which none of that name has" if size else "does not say how much memory it has"
    return UnknownGpu(
        f"the GPU {name!r} {wrong}: they have {sizes} GiB.",
        f"Name it {names}, or {WAY_OUT}.",
        tuple(gpus),
    )


def _none(name: str, asked: _Name) -> UnknownGpu:
    words = {key[0]: of[0][1] for key, of in _catalogue().items() if key[1] == asked.laptop}
    near = [words[word].product for word in get_close_matches(asked.words, words, n=6, cutoff=0.4)]
    known = list(dict.fromkeys(near))[:3] or ["T4", "L4", "A100-80GB", "H100-80GB", "RTX-4090", "MI300X"]
    return UnknownGpu(
        f"no GPU is called {name!r} in the catalogue.",
        f"Known names near it: {', '.join(known)}; or {WAY_OUT}. See docs/planning.md.",
    )


def _read(name: str) -> _Name:
    low = re.sub(r"max-?_? ?q", "maxq", name.lower())
    low = re.sub(r"(\d) (?=(gb|gib)\b)", r"\1", re.sub(r"[^a-z0-9]+", " ", low))
    low = re.sub(r"\bpro (?=[wv]\d)", "", low)
    size, laptop = 0, False
    words: list[str] = []
    for word in low.split():
        if (stated := _SIZE.fullmatch(word)) and words:
            size = int(stated[1])
        elif word in _LAPTOP or (word == "maxq" and "pro" not in words):
            laptop = True
        elif word != "maxq" and not _MEANINGLESS.fullmatch(word):
            words.append(word)
    key = "".join(words)
    if glued := re.fullmatch(r"(.*?[a-z]\d{2,4}[a-z]*?)(\d{2,3})gb", key):  # a10080gb
        key, size = glued[1], int(glued[2])
    return _Name(key, laptop, size, bare=len(words) == len(low.split()))


def _rows(table: str, vendor: Device, laptop: bool = False) -> Iterator[tuple[tuple[str, bool], int, Gpu]]:
    """Key, the size in its name (0 = none), GPU."""
    for row in re.split(r"[|\n]", table.strip()):
        product, mib, *capability = row.split()
        read = _read(product)
        shown = f"{product}-Laptop" if laptop else product
        bandwidth = _speeds().get(shown, 0)
        gpu = Gpu(shown, vendor, int(mib) * _MIB, int(capability[0]) if capability else 0, bandwidth=bandwidth)
        yield (read.words, laptop), read.size, gpu


@cache
def _speeds() -> dict[str, int]:
    """Product -> bytes a second."""
    rows = (row.split() for row in re.split(r"[|\n]", SPEEDS.strip()))
    return {product: int(speed) * 10**9 for product, speed in rows}


Catalogue = dict[tuple[str, bool], tuple[tuple[int, Gpu], ...]]


@cache
def _catalogue() -> Catalogue:
    """(words that tell it apart, laptop) -> its sizes in GB (0 = not in its name) and GPUs. Made when a name is read:
    most commands read none."""
    catalogue: Catalogue = {}
    for key, size, gpu in (
        *_rows(NVIDIA, Device.NVIDIA),
        *_rows(NVIDIA_LAPTOP, Device.NVIDIA, laptop=True),
        *_rows(AMD, Device.AMD),
        *_rows(INTEL, Device.INTEL),
    ):
        catalogue[key] = (*catalogue.get(key, ()), (size, gpu))
    by_product = {gpu.product: gpu for of in catalogue.values() for _, gpu in of}
    for short, product in _SHORT.items():
        catalogue[short, False] = ((0, by_product[product]), *(r for r in catalogue.get((short, False), ()) if r[0]))
    return catalogue
