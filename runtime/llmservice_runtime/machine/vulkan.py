"""GPUs as Vulkan's loader lists them. As a program it prints them as JSON: a driver that crashes does so alone."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from llmservice_runtime.machine.available import available_memory
from llmservice_runtime.machine.machine import Device, Gpu

LOADER = "libvulkan.so.1"
VISIBLE_ENV = "GGML_VK_VISIBLE_DEVICES"
"""By which llama.cpp is told which devices to take, also such as it would not take by itself."""
VENDORS = {0x1002: Device.AMD, 0x8086: Device.INTEL, 0x10DE: Device.NVIDIA}
SECONDS = 20.0
INTEGRATED, DISCRETE = 1, 2
_LOCAL = 1
"""Of a heap: it is the device's own."""


@dataclass(frozen=True, slots=True)
class VulkanDevice:
    """One device: its maker's PCI number, its kind as Vulkan counts (1 integrated, 2 discrete, 4 a CPU), and the bytes
    of its own memory."""

    name: str
    vendor: int
    kind: int
    memory: int


def listed() -> tuple[VulkanDevice, ...]:
    """What a child process finds; nothing where there is no loader, no driver, or one in trouble."""
    try:
        command = [sys.executable, "-m", __spec__.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        return tuple(VulkanDevice(**entry) for entry in json.loads(done.stdout))
    except (OSError, ValueError, TypeError, subprocess.SubprocessError):
        return ()


def usable(devices: Iterable[VulkanDevice]) -> tuple[VulkanDevice, ...]:
    """Those that llama.cpp computes on: GPUs, or the ones that were named to it."""
    found = tuple(devices)
    if named := os.environ.get(VISIBLE_ENV, "").replace(",", " ").split():
        return tuple(found[int(number)] for number in named if number.isdigit() and int(number) < len(found))
    return tuple(device for device in found if device.kind in (INTEGRATED, DISCRETE))


def vulkan_gpus(
    ask: Callable[[], Iterable[VulkanDevice]] = listed, free: Callable[[], int] = available_memory
) -> tuple[Gpu, ...]:
    """GPUs of known vendors. One that shares the host's memory is not counted on for more than half of what is free."""
    gpus = []
    for device in usable(ask()):
        shared = device.kind == INTEGRATED
        memory = min(device.memory, free() // 2) if shared else device.memory
        if (vendor := VENDORS.get(device.vendor)) and memory:
            gpus.append(Gpu(device.name, vendor, memory))
    return tuple(gpus)


def _enumerate() -> list[VulkanDevice]:
    """OSError where there is no loader. Structures as in Vulkan 1.0, whose layout is fixed."""
    library = ctypes.CDLL(LOADER)
    instance = ctypes.c_void_p()
    application = struct.pack("@IPPIPII", 0, 0, 0, 0, 0, 0, 1 << 22 | 1 << 12)
    kept = ctypes.create_string_buffer(application, len(application) + 8)
    create = struct.pack("@IPIPIPIP", 1, 0, 0, ctypes.addressof(kept), 0, 0, 0, 0)
    if library.vkCreateInstance(create, None, ctypes.byref(instance)) != 0:
        return []
    count = ctypes.c_uint32()
    library.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    handles = (ctypes.c_void_p * count.value)()
    library.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
    return [_device(library, ctypes.c_void_p(handle)) for handle in handles]


def _device(library: ctypes.CDLL, handle: ctypes.c_void_p) -> VulkanDevice:
    properties, memory = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(1024)
    library.vkGetPhysicalDeviceProperties(handle, properties)
    library.vkGetPhysicalDeviceMemoryProperties(handle, memory)
    _, _, vendor, _, kind, name = struct.unpack_from("<5I256s", properties.raw)
    (heaps,) = struct.unpack_from("<I", memory.raw, 260)
    sizes = (struct.unpack_from("<QI", memory.raw, 264 + 16 * heap) for heap in range(heaps))
    text = name.split(b"\0")[0].decode("utf-8", "replace")
    return VulkanDevice(text, vendor, kind, sum(size for size, flags in sizes if flags & _LOCAL))


def main() -> int:
    """Prints the devices; drivers may say what they like on standard error."""
    try:
        found = _enumerate()
    except OSError:
        found = []
    sys.stdout.write(json.dumps([asdict(device) for device in found]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
