"""Whose accelerator a resource of a node is."""

from __future__ import annotations

from llmservice_runtime.machine.machine import Device

VENDORS = {
    "nvidia.com/": Device.NVIDIA,
    "amd.com/": Device.AMD,
    "gpu.intel.com/": Device.INTEL,
}
"""Whose accelerators a resource counts, by the start of its name."""
DEFAULT_RESOURCE = {
    Device.NVIDIA: "nvidia.com/gpu",
    Device.AMD: "amd.com/gpu",
    Device.INTEL: "gpu.intel.com/xe",
}


def vendor(resource: str) -> Device:
    """Whose accelerator it is; unknown ones are taken for NVIDIA's."""
    return next((device for start, device in VENDORS.items() if resource.startswith(start)), Device.NVIDIA)


def usual_resource(resource: str) -> str:
    """What a vendor's GPUs are mostly called, and tainted with: a slice of one is a resource of its own."""
    known = any(resource.startswith(start) for start in VENDORS)
    return DEFAULT_RESOURCE[vendor(resource)] if known else resource
