"""The GPU catalogue: product names as nvidia-smi and GPU feature discovery print them -> usable memory and capability.

Memory is what the driver reports as total (MiB), which is less than the number on the box. A machine that can be
asked is asked; the catalogue is for planning for another one.
"""

from __future__ import annotations

import re
from difflib import get_close_matches

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.machine.machine import Device, Gpu

_MIB = 1 << 20

_NVIDIA = """
P4 7680 61|P40 24576 61|P100-16GB 16384 60|V100-16GB 16384 70|V100-32GB 32768 70|GTX-1080-Ti 11264 61
T4 15360 75|RTX-2080-Ti 11264 75|Titan-RTX 24576 75|Quadro-RTX-6000 24576 75|Quadro-RTX-8000 49152 75
A2 15356 86|A10 23028 86|A10G 23028 86|A16 15356 86|A30 24576 80|A40 46068 86|A100-40GB 40960 80|A100-80GB 81920 80
RTX-3060 12288 86|RTX-3070 8192 86|RTX-3080 10240 86|RTX-3090 24576 86|RTX-3090-Ti 24564 86
RTX-A2000 12288 86|RTX-A4000 16376 86|RTX-A4500 20470 86|RTX-A5000 24564 86|RTX-A6000 49140 86
L4 23034 89|L40 46068 89|L40S 46068 89|RTX-4060 8188 89|RTX-4060-Ti-16GB 16380 89|RTX-4070 12282 89
RTX-4070-Ti-Super 16376 89|RTX-4080 16376 89|RTX-4080-Super 16376 89|RTX-4090 24564 89
RTX-4000-Ada 20475 89|RTX-5000-Ada 32760 89|RTX-6000-Ada 49140 89
H100-80GB 81559 90|H100-NVL 95830 90|H100-96GB 95830 90|H20 97871 90|GH200-480GB 97871 90
H200 143771 90|H200-NVL 143771 90
B200 183359 100|GB200 189471 100|B300 275040 103|GB300 284208 103|GB10 122502 121
RTX-5060-Ti-16GB 16311 120|RTX-5070 12227 120|RTX-5070-Ti 16303 120|RTX-5080 16303 120|RTX-5090 32607 120
RTX-PRO-4000 24467 120|RTX-PRO-5000 48935 120|RTX-PRO-6000 97887 120
"""
_AMD = """
MI100 32752|MI210 65520|MI250 65520|MI250X 65520|MI300A 131040|MI300X 196592|MI308X 196592|MI325X 262128|MI350X 294896
MI355X 294896|RX-7900-XT 20464|RX-7900-XTX 24560|W7900 49136|RX-9070-XT 16304|AI-PRO-R9700 32624
"""
_INTEL = "Max-1100 49152|Max-1550 65536|Arc-A770 16225|Arc-B580 12216|Arc-Pro-B60 24480"

_ALIASES = {
    "a100": "A100-40GB", "h100": "H100-80GB", "v100": "V100-16GB", "p100": "P100-16GB", "h200141gb": "H200",
    "gh200": "GH200-480GB", "rtx6000ada": "RTX-6000-Ada", "rtx6000": "Quadro-RTX-6000", "rtx8000": "Quadro-RTX-8000",
    "4060ti": "RTX-4060-Ti-16GB", "5060ti": "RTX-5060-Ti-16GB", "b200180gb": "B200",
}  # fmt: skip
"""Short names; where a product comes in two sizes the smaller one is meant."""

_NOISE = re.compile(
    r"nvidia|tesla|geforce|amd|instinct|radeon|intel|datacenter|graphics|generation|blackwell|gpu|laptop|edition|server|"
    r"workstation|maxq|sxm\d?|pcie|hbm\d?e?|oam|[^a-z0-9]"
)
_MIG = re.compile(r"^(?P<product>.+?)[-_ ]mig[-_ ]\d+g\.(?P<gb>\d+)gb", re.IGNORECASE)


class UnknownGpu(UserError):
    """No such product in the catalogue; the remedy names the nearest ones."""


def find_gpu(name: str) -> Gpu:
    """The GPU of that name: `NVIDIA-A100-SXM4-80GB`, `Tesla T4`, `rtx4090`, or a MIG slice (`...-MIG-1g.10gb`).

    Raises UnknownGpu with the nearest names.
    """
    if slice_ := _MIG.match(name):
        whole = find_gpu(slice_["product"])
        # A slice of n GB shows about 95 % of n GiB (1g.10gb: 9728 MiB).
        usable = min(whole.memory_bytes, int(slice_["gb"]) * 1024 * 95 // 100 * _MIB)
        return Gpu(f"{whole.product}-MIG-{slice_['gb']}GB", whole.vendor, usable, whole.capability)
    key = _key(name.removesuffix("-SHARED"))
    if gpu := CATALOGUE.get(key) or CATALOGUE.get(f"rtx{key}"):
        return gpu
    near = [CATALOGUE[word].product for word in get_close_matches(key, CATALOGUE, n=6, cutoff=0.4)]
    known = list(dict.fromkeys(near))[:3] or ["T4", "L4", "A100-80GB", "H100-80GB", "RTX-4090", "MI300X"]
    raise UnknownGpu(
        f"no GPU is called {name!r} in the catalogue.",
        f"Known names near it: {', '.join(known)}. See docs/planning.md.",
    )


def all_gpus() -> tuple[Gpu, ...]:
    """Every product once, smallest memory first."""
    return tuple(sorted(dict.fromkeys(CATALOGUE.values()), key=lambda gpu: (gpu.memory_bytes, gpu.product)))


def _key(name: str) -> str:
    return _NOISE.sub("", name.lower())


def _rows(table: str, vendor: Device) -> list[Gpu]:
    gpus = []
    for row in re.split(r"[|\n]", table.strip()):
        product, mib, *capability = row.split()
        gpus.append(Gpu(product, vendor, int(mib) * _MIB, int(capability[0]) if capability else 0))
    return gpus


def _build() -> dict[str, Gpu]:
    rows = [*_rows(_NVIDIA, Device.NVIDIA), *_rows(_AMD, Device.AMD), *_rows(_INTEL, Device.INTEL)]
    catalogue = {_key(gpu.product): gpu for gpu in rows}
    return catalogue | {alias: catalogue[_key(product)] for alias, product in _ALIASES.items()}


CATALOGUE: dict[str, Gpu] = _build()
