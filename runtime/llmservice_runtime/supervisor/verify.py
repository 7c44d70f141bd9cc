"""What a load turned out to be beside what the plan assumed: memory, files, times, and what differs, in words."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor.kernel import PROC, session_of

TOLERATED = 1.10
"""Measured over predicted memory: more is said."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """One load. Bytes by `host`, `gpu` (all of them) and `files`; what is not known is left out."""

    seconds: float
    phases: Mapping[str, float]
    """Seconds of each load phase."""
    predicted: Mapping[str, int]
    measured: Mapping[str, int]
    tokens_per_second: float | None
    """Of one stream in the self-test; None = it was too short to tell."""
    findings: tuple[str, ...]
    """How it differs from what was planned with, as sentences."""

    def as_json(self) -> dict[str, Any]:
        """For /status."""
        return asdict(self)


def loaded(settings: RuntimeSettings, phases: Mapping[str, float], seconds: float, host: int, detail: str) -> Loaded:
    """`host` = what was measured (`resident`); `detail` = the engine's, of its `ready` report. Reads files' sizes."""
    said = _details(detail)
    predicted = {
        "host": settings.planned_host_bytes,
        "gpu": settings.planned_gpu_bytes,
        "files": settings.planned_file_bytes,
    }
    measured = {"host": host, "gpu": _count(said.get("gpu_bytes")), "files": files_bytes(settings)}
    predicted, measured = ({name: size for name, size in sizes.items() if size} for sizes in (predicted, measured))
    speed = said.get("tokens_per_second")
    return Loaded(
        seconds=round(seconds, 3),
        phases={name: round(took, 3) for name, took in phases.items()},
        predicted=predicted,
        measured=measured,
        tokens_per_second=round(speed, 2) if isinstance(speed, float) and speed > 0 else None,
        findings=tuple(differences(predicted, measured)),
    )


def differences(predicted: Mapping[str, int], measured: Mapping[str, int]) -> Iterator[str]:
    """Sentences, most serious first. What one side lacks is not compared."""
    both = predicted.keys() & measured.keys()
    if "files" in both and predicted["files"] != measured["files"]:
        yield (
            f"The model's files have {measured['files']:,} bytes, and the plan was made for {predicted['files']:,}: "
            "they are others than those whose headers were read. Plan anew (edit the spec, or start again)."
        )
    for name, where in (("host", "host memory"), ("gpu", "GPU memory")):
        if name in both and measured[name] > TOLERATED * predicted[name]:
            more = measured[name] / predicted[name] - 1
            yield (
                f"The engine took {_mib(measured[name])} of {where} for the model, {more:.0%} more than the "
                f"{_mib(predicted[name])} that were planned: leave that much more room beside it, and report it."
            )


def resident(session: int, proc: Path = PROC) -> int:
    """Bytes of memory that the processes of a session and this one hold; what they share counts once. 0 = unknown."""
    pids = [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]
    return sum(_held(proc / str(pid)) for pid in pids if pid == os.getpid() or session_of(proc / str(pid)) == session)


def files_bytes(settings: RuntimeSettings) -> int:
    """Bytes of the files that were planned with, as they are here; 0 = not told, or one is missing."""
    names = settings.planned_files
    if not names:
        return 0
    path = Path(settings.model_path)
    try:
        folder = path if path.is_dir() else path.parents[len(Path(names[0]).parts) - 1]
        return sum((folder / name).stat().st_size for name in names)
    except (OSError, IndexError):
        return 0


def _held(process: Path) -> int:
    for file, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (process / file).read_text().splitlines():
                if line.startswith(field):
                    return int(line.split()[1]) * 1024
    return 0


def _details(detail: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(detail)
        if isinstance(body, dict):
            return body
    return {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB"
