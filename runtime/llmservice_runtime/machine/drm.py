"""GPUs as the Linux kernel lists them, of which no driver library has to be asked. Their names are numbers."""

from __future__ import annotations

from pathlib import Path

from llmservice_runtime.machine.machine import Device, Gpu

VENDORS = {"0x1002": Device.AMD, "0x8086": Device.INTEL, "0x10de": Device.NVIDIA}


def drm_gpus(root: Path = Path("/")) -> tuple[Gpu, ...]:
    """Display devices of the makers of GPUs; memory is 0 where the kernel does not tell, as of those that share the
    host's."""
    gpus = []
    for folder in sorted((root / "sys/class/drm").glob("card*/device")):
        vendor = VENDORS.get(_text(folder / "vendor"))
        if vendor and folder.parent.name.removeprefix("card").isdigit():
            name = f"{vendor.value} GPU ({_text(folder / 'vendor')[2:]}:{_text(folder / 'device')[2:]})"
            size = _text(folder / "mem_info_vram_total")
            gpus.append(Gpu(name, vendor, int(size) if size.isdigit() else 0))
    return tuple(gpus)


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
