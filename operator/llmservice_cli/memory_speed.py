"""How fast this machine's CPUs read memory, for plans: measured once since it was started, in a calm moment."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path

from llmservice_cli.places import Places
from llmservice_runtime.machine.machine import Machine
from llmservice_runtime.machine.memory_speed import cache_bytes, measured

FILE = "memory-speed.json"
BOOT = Path("/proc/sys/kernel/random/boot_id")
MOST_BUSY = 0.3
"""Of its CPUs, on average of the last minute: beyond it what is measured is what others leave."""


def with_memory_speed(machine: Machine, cache: Path | None = None) -> Machine:
    """The same with what is known of its memory. Takes a tenth of a second or two, the first time; nothing is known
    while the machine is busy. `cache`: where that is kept; None = this user's."""
    file, caches = (cache or Places.from_environment().cache) / FILE, cache_bytes()
    about = {"boot": _boot(), "cpus": machine.cpus}
    bandwidth = _kept(file, about)
    if not bandwidth and os.getloadavg()[0] <= MOST_BUSY * machine.cpus:
        bandwidth = measured(machine.cpus, caches, machine.memory_available)
        if bandwidth:
            _keep(file, {**about, "bytes_per_second": bandwidth})
    return dataclasses.replace(machine, bandwidth=bandwidth, cache_bytes=caches)


def _kept(file: Path, about: dict[str, object]) -> int:
    with contextlib.suppress(OSError, ValueError, KeyError):
        body = json.loads(file.read_text())
        if isinstance(body, dict) and about.items() <= body.items() and type(body["bytes_per_second"]) is int:
            return max(0, body["bytes_per_second"])
    return 0


def _keep(file: Path, body: dict[str, object]) -> None:
    """Where it can't be kept it is measured again."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        made = file.with_name(f"{file.name}.{os.getpid()}")
        made.write_text(json.dumps(body))
        made.replace(file)


def _boot() -> str:
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""
