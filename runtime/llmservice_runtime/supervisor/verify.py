"""What a load turned out to be beside what the plan assumed: memory, files, times, and what differs, in words."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.memory import GPU, HOST, HeldLine, Part, PlannedLine
from llmservice_runtime.contract.plain import plain
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor.kernel import PROC, session_of

TOLERATED = 1.10
"""Measured over predicted memory: more is said."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the plan's memory beside what there is of it. What was planned in several lines of one part is
    measured as one. `measured` is None where nobody can tell, and of what is kept free."""

    name: str
    where: str
    predicted: int
    measured: int | None


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes in memory of a replica's processes; `shared` of them in /dev/shm."""

    total: int
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """One load. Bytes by `host`, `gpu` (all of them) and `files`; what is not known is left out.

    Memory counts a cache as full, however much of it is in memory yet.
    """

    seconds: float
    phases: Mapping[str, float]
    """Seconds of each load phase."""
    predicted: Mapping[str, int]
    measured: Mapping[str, int]
    memory: tuple[Line, ...]
    """The same line by line."""
    tokens_per_second: float | None
    """Of one stream in the self-test; None = it was too short to tell."""
    prompt_tokens_per_second: float | None
    """Of one prompt in it, when nothing else was computed; None likewise."""
    together_tokens_per_second: float | None
    """Of all answers that are computed at a time, together; None likewise."""
    findings: tuple[str, ...]
    """How it differs from what was planned with, as sentences."""

    def as_json(self) -> dict[str, Any]:
        """For /status."""
        return asdict(self)


def loaded(
    settings: RuntimeSettings, phases: Mapping[str, float], seconds: float, host: Resident, detail: str
) -> Loaded:
    """`host` = what was measured (`resident`); `detail` = the engine's, of its `ready` report. Reads files' sizes."""
    said = _details(detail)
    told = said.get("memory")
    held = [line for body in (told if isinstance(told, list) else ()) if (line := HeldLine.of(body)) is not None]
    memory = tuple(compared(settings.planned_memory, held, host))
    needed = [_needed(line, settings.planned_memory) for line in held]
    predicted = {
        "host": _planned(settings, HOST),
        "gpu": _planned(settings, GPU),
        "files": settings.planned_file_bytes,
    }
    measured = {
        "host": host.total and host.total + sum(line.bytes - line.resident for line in held if line.where == HOST),
        "gpu": sum(line.bytes for line in held if line.where == GPU),
        "files": files_bytes(settings),
    }
    predicted, measured = ({name: size for name, size in sizes.items() if size} for sizes in (predicted, measured))
    return Loaded(
        seconds=round(seconds, 3),
        phases={name: round(took, 3) for name, took in phases.items()},
        predicted=predicted,
        measured=measured,
        memory=memory,
        tokens_per_second=_speed(said, "tokens_per_second"),
        prompt_tokens_per_second=_speed(said, "prompt_tokens_per_second"),
        together_tokens_per_second=_speed(said, "together_tokens_per_second"),
        findings=(
            *_other_gpus(settings, said),
            *differences(
                predicted, _less(measured, held, needed), tuple(compared(settings.planned_memory, needed, host))
            ),
        ),
    )


def compared(planned: Sequence[PlannedLine], held: Sequence[HeldLine], host: Resident) -> Iterator[Line]:
    """The plan's lines in their order, those of one part and place together, with what is measured of each."""
    groups: dict[tuple[Part, str], list[PlannedLine]] = {}
    for line in planned:
        groups.setdefault((line.part, line.where), []).append(line)
    if all(part is not Part.SHARED for part, _ in groups):  # no line of its own: what there is, is the engine's
        host = replace(host, shared=0)
    for (part, where), lines in groups.items():
        name = " and ".join(line.name for line in lines)
        yield Line(name, where, sum(line.bytes for line in lines), _measured(part, where, held, host))


def _measured(part: Part, where: str, held: Sequence[HeldLine], host: Resident) -> int | None:
    told = [line.bytes for line in held if (line.part, line.where) == (part, where)]
    if told or part is Part.RESERVE:
        return sum(told) if told else None
    if where == GPU or not host.total:
        return None
    if part is Part.SHARED:
        return host.shared
    if part is Part.ENGINE and held:
        return max(0, host.total - host.shared - sum(line.resident for line in held if line.where == HOST))
    return None


def _needed(line: HeldLine, planned: Sequence[PlannedLine]) -> HeldLine:
    """Without what an engine keeps on a GPU for its cache beyond the plan: vLLM takes all of its share, for whatever
    comes, and nobody has to leave room for that."""
    if (line.part, line.where) != (Part.CACHE, GPU):
        return line
    size = min(line.bytes, sum(one.bytes for one in planned if (one.part, one.where) == (line.part, line.where)))
    return replace(line, bytes=size, resident=min(size, line.resident))


def _less(measured: Mapping[str, int], held: Sequence[HeldLine], needed: Sequence[HeldLine]) -> dict[str, int]:
    beyond = sum(one.bytes - other.bytes for one, other in zip(held, needed, strict=True))
    return {name: size - beyond if name == "gpu" else size for name, size in measured.items()}


def _other_gpus(settings: RuntimeSettings, said: Mapping[str, Any]) -> Iterator[str]:
    names = said.get("other_gpus")
    if settings.planned_accelerator and isinstance(names, list) and names:
        found = plain(", ".join(str(name) for name in names[:4]))[:200]
        yield (
            f"The plan was made for {settings.planned_accelerator}, and the engine runs on {found}: memory and speed "
            "are others than planned. Plan anew (edit the spec, or start again), or name the GPU in accelerator."
        )


def _planned(settings: RuntimeSettings, where: str) -> int:
    lines = (line for line in settings.planned_memory if line.part is not Part.RESERVE)
    return sum(line.bytes for line in lines if line.where == where)


def differences(
    predicted: Mapping[str, int], measured: Mapping[str, int], memory: Sequence[Line] = ()
) -> Iterator[str]:
    """Sentences, most serious first. What one side lacks is not compared."""
    both = predicted.keys() & measured.keys()
    if "files" in both and predicted["files"] != measured["files"]:
        yield (
            f"The model's files have {measured['files']:,} bytes, and the plan was made for {predicted['files']:,}: "
            "they are others than those whose headers were read. Plan anew (edit the spec, or start again)."
        )
    for name, where, place in (("host", "host memory", HOST), ("gpu", "GPU memory", GPU)):
        if name in both and measured[name] > TOLERATED * predicted[name]:
            more = measured[name] / predicted[name] - 1
            yield (
                f"The engine takes {_mib(measured[name])} of {where} for the model, {more:.0%} more than the "
                f"{_mib(predicted[name])} that were planned{_mostly(memory, place)}: leave that much more room beside "
                "it, and report it."
            )


def _mostly(memory: Sequence[Line], where: str) -> str:
    """The line that has the most above its plan."""
    over = [(line.measured - line.predicted, line) for line in memory if line.where == where and line.measured]
    most, line = max(over, key=lambda pair: pair[0], default=(0, None))
    if line is None or most <= 0:
        return ""
    return f" (the most for {line.name}, {_mib(line.measured or 0)} instead of {_mib(line.predicted)})"


def resident(session: int, proc: Path = PROC) -> Resident:
    """What the processes of a session and this one hold; what they share counts once. 0 = unknown."""
    pids = [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]
    ours = [pid for pid in pids if pid == os.getpid() or session_of(proc / str(pid)) == session]
    sizes = [_held(proc / str(pid)) for pid in ours]
    return Resident(sum(total for total, _ in sizes), sum(shared for _, shared in sizes))


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


def _held(process: Path) -> tuple[int, int]:
    """(bytes that it holds by its share, bytes of them that are shared memory)."""
    for file, of_all, of_shared in (("smaps_rollup", "Pss", "Pss_Shmem"), ("status", "VmRSS", "RssShmem")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            sizes = {}
            for line in (process / file).read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in (of_all, of_shared):
                    sizes[name] = int(rest.split()[0]) * 1024
            if of_all in sizes:
                return sizes[of_all], sizes.get(of_shared, 0)
    return 0, 0


def _details(detail: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(detail)
        if isinstance(body, dict):
            return body
    return {}


def _speed(said: Mapping[str, Any], name: str) -> float | None:
    speed = said.get(name)
    return round(speed, 2) if isinstance(speed, float) and speed > 0 else None


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB"
