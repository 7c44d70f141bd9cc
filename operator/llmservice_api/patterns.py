"""Patterns of names and quantities, and what each asks for in words."""

import re

LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SERVICE_NAME = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""A Service's name is a label that begins with a letter (RFC 1035)."""
NAME_LIMIT = 40
"""Characters of a service's name: children's names add to it and must stay DNS labels (63)."""
SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
GPU_MEMORY = r"^[1-9][0-9]{0,6}(\.[0-9]{1,3})?(M|G|T|Mi|Gi|Ti)$"
RESOURCE = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
IMAGE = r"^[A-Za-z0-9][-A-Za-z0-9._:/@]*$"
NODE_PATH = r"^(/[-A-Za-z0-9._]+)+$"
PATTERNS = {
    LABEL: "lower-case letters, digits and '-', with a letter or a digit at both ends",
    SERVICE_NAME: "lower-case letters, digits and '-', with a letter first and a letter or a digit last: "
    "qwen-7b for 7b-qwen",
    SUBDOMAIN: "lower-case letters, digits, '-' and '.', with a letter or a digit at both ends",
    ENV_NAME: "letters, digits and '_', not starting with a digit",
    QUANTITY: "a quantity of Kubernetes: 500m, 2, 1.5Gi",
    GPU_MEMORY: "an amount of memory with its unit: 24Gi, 9728Mi",
    IMAGE: "an image reference: registry.example.com/runtime@sha256:...",
    RESOURCE: "a resource as nodes advertise it: nvidia.com/gpu",
    NODE_PATH: "an absolute path of letters, digits, '.', '_' and '-', without a '/' at its end: /var/lib/models",
}
"""What each pattern asks for, in words."""

_UNITS = {"M": 10**6, "G": 10**9, "T": 10**12, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def gpu_memory(text: str) -> int:
    """Bytes of what matches GPU_MEMORY; ValueError for anything else."""
    if not re.fullmatch(GPU_MEMORY, text):
        raise ValueError(f"{text[:40]!r} is not {PATTERNS[GPU_MEMORY]}")
    unit = text.lstrip("0123456789.")
    return int(float(text.removesuffix(unit)) * _UNITS[unit])


SMALLEST, LARGEST = 100 << 20, 1 << 46
GIB = 1 << 30


def host_memory(text: str) -> int:
    """Bytes of an amount of host memory to plan with: `8Gi`, `500Mi`, or a number of GiB. ValueError for anything else,
    also for what no machine has."""
    try:
        size = gpu_memory(text) if text[-1:].isalpha() else int(float(text) * GIB)
    except (ValueError, OverflowError):
        size = 0
    if not SMALLEST <= size <= LARGEST:
        raise ValueError(f"between 100Mi and 64Ti, as 8Gi (or 8), not {text[:40]!r}")
    return size
