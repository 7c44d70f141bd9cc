"""GPUs as Vulkan's loader lists them. As a program it prints them as JSON: a driver that crashes does so alone."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from llmservice_runtime.machine.available import available_memory
from llmservice_runtime.machine.gpus import bandwidth_of
from llmservice_runtime.machine.machine import Device, Gpu
from llmservice_runtime.machine.visible import VISIBLE_ENV

LOADER = "libvulkan.so.1"
VENDORS = {0x1002: Device.AMD, 0x8086: Device.INTEL, 0x10DE: Device.NVIDIA}
SECONDS = 20.0
INTEGRATED, DISCRETE = 1, 2
_LOCAL = 1
"""Of a heap: it is the device's own."""


@dataclass(frozen=True, slots=True)
class VulkanDevice:
    """One device: its maker's PCI number, its kind as Vulkan counts (1 integrated, 2 discrete, 4 a CPU), and the bytes
    of its own memory. `uuid` is the driver's, of NVIDIA's the same as nvidia-smi's; empty = it tells none. `number`
    counts as the loader does."""

    name: str
    vendor: int
    kind: int
    memory: int
    uuid: str = ""
    number: int = 0


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
    """GPUs of known vendors. One that shares the host's memory is not counted on for more than half of what is free;
    one that two drivers list is there once."""
    gpus: dict[str, Gpu] = {}
    for device in usable(ask()):
        shared = device.kind == INTEGRATED
        memory = min(device.memory, free() // 2) if shared else device.memory
        if (vendor := VENDORS.get(device.vendor)) and memory:
            speed = 0 if shared else bandwidth_of(device.name.partition(" (")[0], memory)  # drivers add their own name
            gpu = Gpu(device.name, vendor, memory, id=_id(device), vulkan=device.number, bandwidth=speed)
            gpus.setdefault(_id(device), gpu)
    return tuple(gpus.values())


def numbered(gpus: Iterable[Gpu], ask: Callable[[], Iterable[VulkanDevice]] = listed) -> tuple[Gpu, ...]:
    """GPUs that another driver listed, with their numbers in Vulkan's list where both tell the same UUID."""
    numbers = {_id(device): device.number for device in ask()}
    return tuple(replace(gpu, vulkan=numbers.get(gpu.id)) for gpu in gpus)


def _id(device: VulkanDevice) -> str:
    return f"GPU-{device.uuid}" if device.uuid else f"Vulkan {device.number}"


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
    return [_device(library, ctypes.c_void_p(handle), number) for number, handle in enumerate(handles)]


def _device(library: ctypes.CDLL, handle: ctypes.c_void_p, number: int) -> VulkanDevice:
    properties, memory = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(1024)
    library.vkGetPhysicalDeviceProperties(handle, properties)
    library.vkGetPhysicalDeviceMemoryProperties(handle, memory)
    _, _, vendor, _, kind, name = struct.unpack_from("<5I256s", properties.raw)
    (heaps,) = struct.unpack_from("<I", memory.raw, 260)
    sizes = (struct.unpack_from("<QI", memory.raw, 264 + 16 * heap) for heap in range(heaps))
    text = name.split(b"\0")[0].decode("utf-8", "replace")
    size = sum(size for size, flags in sizes if flags & _LOCAL)
    return VulkanDevice(text, vendor, kind, size, _uuid(library, handle), number)


def _uuid(library: ctypes.CDLL, handle: ctypes.c_void_p) -> str:
    """The device's, of VkPhysicalDeviceIDProperties (Vulkan 1.1); empty with an older loader."""
    if not hasattr(library, "vkGetPhysicalDeviceProperties2"):
        return ""
    ids = ctypes.create_string_buffer(struct.pack("@IP", 1000071004, 0), 64)
    properties = ctypes.create_string_buffer(struct.pack("@IP", 1000059001, ctypes.addressof(ids)), 1040)
    library.vkGetPhysicalDeviceProperties2(handle, properties)
    found = ids.raw[16:32]
    return str(uuid.UUID(bytes=found)) if any(found) else ""


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
