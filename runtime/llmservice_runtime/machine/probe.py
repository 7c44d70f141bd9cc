"""Read the facts of this machine: procfs, cgroups (v1 and v2), nvidia-smi. The only I/O of the estimate."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from llmservice_runtime.machine.gpus import UnknownGpu, bandwidth_of, find_gpu
from llmservice_runtime.machine.machine import ALL_BUILDS, Device, EngineBuild, Gpu, Machine

_RESIDENT = re.compile(r"^(VmRSS|RssFile):\s*(\d+)", re.MULTILINE)
FEW_MAPPED = 512 << 20
"""Below it, which of two numbers is nearer is not worth a look at every process."""
GPU_FIELDS = "name,memory.total,compute_cap,index,uuid,memory.free"
"""What nvidia-smi is asked of every GPU."""
NVIDIA_SMI_SECONDS = 5.0
"""A driver in trouble hangs; its GPUs are then of no use to an engine either."""

Ask = Callable[[list[str]], str]


def read_machine(
    builds: tuple[EngineBuild, ...] = ALL_BUILDS, root: Path = Path("/"), ask: Ask | None = None
) -> Machine:
    """This machine as a plan sees it. `root` stands for the file system, `ask` runs a command (tests replace both).

    CPUs: those this process may run on, at most its cgroup's quota. Memory: the cgroup's limit and what of it is free,
    where page cache counts as free; else the machine's.
    """
    total, free = memory(root)
    return Machine(
        cpus=cpus(root),
        memory_bytes=total,
        memory_available=free,
        cpu_flags=cpu_flags(root),
        architecture=platform.machine(),
        gpus=nvidia_gpus(ask),
        builds=builds,
    )


def cpus(root: Path = Path("/")) -> int:
    """Usable CPUs, at least 1."""
    count = len(os.sched_getaffinity(0))
    for group in cgroups(root, "cpu"):
        quota, period = (_text(group / "cpu.max") or "").split() or ("max", "100000")
        if quota == "max":
            quota = _text(group / "cpu.cfs_quota_us") or "-1"
            period = _text(group / "cpu.cfs_period_us") or "100000"
        if int(quota) > 0:
            count = min(count, -(-int(quota) // int(period)))
    return max(1, count)


def memory(root: Path = Path("/")) -> tuple[int, int]:
    """(bytes that may be used at most, bytes of them that are free now).

    Page cache is free, but not the pages of files that somebody has mapped: a running model's weights are such pages,
    which the kernel would give away and read again at every step.
    """
    info = {}
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        info[name] = int(value.split()[0]) * 1024
    total, free = info.get("MemTotal", 0), info.get("MemAvailable", info.get("MemFree", 0))
    free = max(0, free - _mapped(root, info.get("Mapped", 0)))
    for group in cgroups(root, "memory"):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        if limit is None or limit >= info.get("MemTotal", 0):
            continue
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
        total = min(total, limit)
        free = min(free, max(0, limit - used + _reclaimable(group)))
    return total, free


def resident(pid: int, root: Path = Path("/")) -> tuple[int, int]:
    """(bytes that a process has in memory, bytes of them that are pages of files); zeros when it is gone."""
    text = _text(root / f"proc/{pid}/status") or ""
    sizes = {name: int(kib) * 1024 for name, kib in _RESIDENT.findall(text)}
    return sizes.get("VmRSS", 0), sizes.get("RssFile", 0)


def _mapped(root: Path, most: int) -> int:
    """Bytes of files that processes have mapped. The kernel's number (`most`) counts shared memory too, which is not
    in what it calls available; the sum over processes counts shared libraries often: the smaller one is nearer."""
    if most < FEW_MAPPED:
        return most
    mapped = 0
    for entry in (root / "proc").iterdir():
        if entry.name.isdigit():
            mapped += resident(int(entry.name), root)[1]
        if mapped >= most:  # usually after a few; a machine has hundreds
            return most
    return mapped


def cgroups(root: Path, controller: str) -> list[Path]:
    """The folders of this process's cgroup and of all above it: each of them may limit."""
    folders = []
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        if names == "":
            base = root / "sys/fs/cgroup"
        elif controller in names.split(","):
            base = root / "sys/fs/cgroup" / controller
        else:
            continue
        here = base / path.lstrip("/")
        folders += [folder for folder in (here, *here.parents) if folder.is_relative_to(base) and folder.is_dir()]
    return list(dict.fromkeys(folders))


def cpu_flags(root: Path = Path("/")) -> frozenset[str]:
    """Instruction sets of the first CPU, as /proc/cpuinfo names them (`flags` on x86, `Features` on Arm)."""
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def nvidia_gpus(ask: Ask | None = None) -> tuple[Gpu, ...]:
    """GPUs that the NVIDIA driver reports; none where there is no driver."""
    text = (ask or _ask)(["nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"])
    gpus = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == GPU_FIELDS.count(",") + 1 and re.fullmatch(r"\d+\.\d+", fields[2]):
            gpus.append(_nvidia_gpu(*fields))
    return tuple(gpu for gpu in gpus if gpu.memory_bytes)


def _nvidia_gpu(product: str, mib: str, capability: str, index: str, uuid: str, free: str) -> Gpu:
    major, minor = capability.split(".")
    memory = _gpu_memory(product, mib)
    return Gpu(
        product,
        Device.NVIDIA,
        memory,
        int(major) * 10 + int(minor),
        id=uuid if uuid.startswith("GPU-") else f"NVIDIA {index}",
        index=int(index) if index.isdigit() else None,
        free_bytes=int(free) << 20 if mib.isdigit() and free.isdigit() else None,
        bandwidth=bandwidth_of(product, memory),
    )


def _gpu_memory(product: str, mib: str) -> int:
    """Bytes; GPUs that share the host's memory report none, so the catalogue is asked (0 = not there either)."""
    if mib.isdigit():
        return int(mib) << 20
    try:
        return find_gpu(product).memory_bytes
    except UnknownGpu:
        return 0


def _ask(command: list[str]) -> str:
    """Output of a command; empty when it does not exist, fails or takes too long."""
    if not shutil.which(command[0]):
        return ""
    import subprocess  # a machine without GPUs plans without it

    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _reclaimable(group: Path) -> int:
    """Page cache that the kernel gives back before it kills, but for what is mapped."""
    stat: dict[str, int] = {}
    for line in (_text(group / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        stat[name] = int(value)
    # Version 1 has these names for the group alone, and with total_ for it and all below.
    inactive, active, mapped = (
        stat.get(f"total_{name}", stat.get(name, stat.get(other, 0)))
        for name, other in (("inactive_file", ""), ("active_file", ""), ("mapped_file", "file_mapped"))
    )
    return min(inactive, max(0, inactive + active - mapped))


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
