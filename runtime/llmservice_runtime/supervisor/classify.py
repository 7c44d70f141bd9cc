"""Why did the engine end? From what is left of it (exit code, signal, last words, counters) to a failure record."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.supervisor.reports import FailureReport

GIB = 1024**3
TAIL_CHARACTERS = 1500
_SIGNAL = "(?P<signal>"
_NEAR_THE_END = 6
"""Lines that may follow an exception: where threads were, how to report a bug."""
_EXCEPTION = r"[\w.]+(?:Error|Exception)\b"
_ABOVE = "See root cause above"
"""In the exception of a process whose child told its own before."""


LastWords = Sequence[tuple[FailureClass, str]]
"""A pattern of a line of output, and what it means. A group `signal` has what ended a process below the engine's, as a
negative number: then it is looked at as if the engine's own had ended so."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What an ended engine leaves behind. Sizes in bytes; None where unknown."""

    code: int
    """Exit code; negative = the signal that ended it."""
    phase: Phase
    tail: Sequence[str] = ()
    """Its last lines of output, oldest first."""
    reported: FailureReport | None = None
    killed_for: FailureRecord | None = None
    """Set when the supervisor itself killed it."""
    kernel_oom_kills: int = 0
    """How many processes the kernel killed for memory just before."""
    others_counted: bool = False
    """Processes of others are among these: only an engine that was killed itself was one of them."""
    memory_limit: int | None = None
    peak_memory: int | None = None
    port: int = 0
    model_path: str = ""
    engine: str = ""
    """Its name on the command line of llmservice-runtime."""
    last_words: LastWords = ()
    """What this engine says before it ends, beside what any does."""
    who: str = "The engine"
    """That `code` is of."""


REMEDIES: dict[FailureClass, str] = {
    FailureClass.OUT_OF_MEMORY: "Raise the memory limit, shorten contextTokens, or choose a smaller quantization.",
    FailureClass.OUT_OF_GPU_MEMORY: "Shorten contextTokens, keep fewer layers on the GPU,"
    " or choose a smaller quantization or a larger GPU.",
    FailureClass.DRIVER_TOO_OLD: "Update the GPU driver of the node, let the service run on nodes whose driver is"
    " newer, or use an image that is built with an older CUDA (engine.image).",
    FailureClass.UNSUPPORTED_FORMAT: "Choose another file of the model; `llmservice engines` lists what runs.",
    FailureClass.DISK_FULL: "Free space in the model cache, or give it a larger volume.",
    FailureClass.PORT_IN_USE: "Stop the program that listens there, or choose another port (0 = any free one).",
    FailureClass.MODEL_DAMAGED: "Check the disk; delete the damaged copy so that it is fetched again.",
    FailureClass.BAD_ARGUMENT: "Correct engine.args or the settings named in the message.",
}

_LAST_WORDS: LastWords = (
    (
        FailureClass.OUT_OF_GPU_MEMORY,
        r"cuda.{0,60}out of memory|out of memory.{0,60}cuda|cudamalloc failed|outofdevicememory"
        r"|cuda error 2\b|hip.{0,40}out of memory|unable to allocate (cuda|rocm|vulkan)\d* buffer",
    ),
    (
        FailureClass.DRIVER_TOO_OLD,
        r"nvidia driver on your system is too old|cuda driver version is insufficient for cuda runtime version"
        r"|ptx was compiled with an unsupported toolchain|forward compatibility was attempted on non supported hw",
    ),
    (FailureClass.DISK_FULL, r"no space left on device|\benospc\b|disk quota exceeded"),
    (FailureClass.PORT_IN_USE, r"address already in use|\beaddrinuse\b|errno 98\b"),
    (
        FailureClass.OUT_OF_MEMORY,
        r"\bmemoryerror\b|std::bad_alloc|cannot allocate memory|\benomem\b|unable to allocate cpu\w* buffer"
        r"|failed to allocate (buffer|\d+ bytes)|failed to map segment from shared object|out of memory",
    ),
    (
        FailureClass.ENGINE_NOT_INSTALLED,
        r"no module named '?(llmservice_runtime|numpy|aiohttp)|cannot open shared object file",
    ),
    (FailureClass.BAD_ARGUMENT, r"error: (unrecognized arguments|argument |the following arguments)"),
)


def classify(remains: Remains) -> FailureRecord:
    """The most certain cause first: what the supervisor did, what the engine said, the kernel, last words, signal."""
    if remains.killed_for is not None:
        return FailureRecord(
            remains.killed_for.failure,
            remains.killed_for.message,
            remains.killed_for.remedy,
            remains.killed_for.phase,
            remains.code,
        )
    if remains.reported is not None:
        report = remains.reported
        remedy = report.remedy or _remedy(report.failure, remains.engine)
        return _record(remains, report.failure, report.message, remedy)
    if remains.code >= 0 and (number := _signal_below(remains)):
        others = tuple(words for words in remains.last_words if _SIGNAL not in words[1])
        remains = replace(remains, code=number, who="A worker of the engine", last_words=others)
    worker_killed = remains.kernel_oom_kills > 0 and not remains.others_counted
    if remains.code == -signal.SIGKILL or worker_killed:
        return _killed(remains)
    if words := _last_words(remains):
        failure, line = words[:2]
        where = f" (port {remains.port})" if failure is FailureClass.PORT_IN_USE and remains.port else ""
        return _record(remains, failure, f"The engine ended{where}: {line}", _remedy(failure, remains.engine))
    if remains.code < 0:
        return _signalled(remains)
    if remains.code == 0:
        return _record(remains, FailureClass.CRASHED, "The engine ended by itself without an error.", _LOOK)
    return _record(
        remains, FailureClass.CRASHED, f"The engine ended with exit code {remains.code}.{_quote(remains.tail)}", _LOOK
    )


_LOOK = "Read the lines before the end in this replica's log; when they name no cause, report a bug with them."


_OTHER_FILE = (
    "The model file may be damaged, or of a kind this engine can't run: compare its checksum, or use another file."
)


def reinstall(engine: str) -> str:
    """The command that makes an engine's environment again."""
    return f"llmservice-runtime install {engine} --rebuild"


def _remedy(failure: FailureClass, engine: str) -> str:
    if failure is FailureClass.ENGINE_NOT_INSTALLED:
        return f"Install it again: {reinstall(engine)}."
    return REMEDIES.get(failure, "")


def _killed(remains: Remains) -> FailureRecord:
    peak = f" It held {remains.peak_memory / GIB:.2f} GiB at most." if remains.peak_memory else ""
    limit = f" The limit is {remains.memory_limit / GIB:.2f} GiB." if remains.memory_limit else ""
    if remains.kernel_oom_kills > 0:
        message = f"The kernel killed the engine because memory ran out.{peak}{limit}"
        if remains.others_counted:
            when = "at a time when the kernel killed processes here for want of memory"
            what = f"{remains.who} was killed (SIGKILL) {when}."
            message = f"{what}{peak}{limit}"
        return _record(remains, FailureClass.OUT_OF_MEMORY, message, REMEDIES[FailureClass.OUT_OF_MEMORY])
    message = f"{remains.who} was killed from outside (SIGKILL), not for memory as far as the kernel says.{peak}{limit}"
    return _record(remains, FailureClass.CRASHED, message, "Look for who killed it; it can be started again.")


def _signalled(remains: Remains) -> FailureRecord:
    number = -remains.code
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    quote = _quote(remains.tail)
    if number == signal.SIGILL:
        message = f"The engine met an instruction this CPU does not have (SIGILL): it was built for another CPU.{quote}"
        return _record(remains, FailureClass.CRASHED, message, f"Build it here: {reinstall(remains.engine)}.")
    if number == signal.SIGBUS:
        message = f"Reading the model failed (SIGBUS): {remains.model_path} became shorter or its disk failed.{quote}"
        return _record(remains, FailureClass.MODEL_DAMAGED, message, REMEDIES[FailureClass.MODEL_DAMAGED])
    if number == signal.SIGABRT and (line := _assertion(remains.tail)):
        remedy = _OTHER_FILE if remains.phase is Phase.LOADING else _LOOK
        return _record(remains, FailureClass.CRASHED, f"The engine gave up (SIGABRT): {line}", remedy)
    if number in (signal.SIGTERM, signal.SIGINT):
        return _record(
            remains, FailureClass.CRASHED, f"{remains.who} was stopped from outside ({name}).", "Start it again."
        )
    return _record(remains, FailureClass.CRASHED, f"{remains.who} crashed ({name}).{quote}", _LOOK)


def _record(remains: Remains, failure: FailureClass, message: str, remedy: str) -> FailureRecord:
    return FailureRecord(failure, message, remedy, remains.phase.value, remains.code)


def _last_words(remains: Remains) -> tuple[FailureClass, str, re.Match[str]] | None:
    """The last line that names a cause, its class, and where it does."""
    for line in reversed(remains.tail):
        for failure, pattern in (*remains.last_words, *_LAST_WORDS):
            if found := re.search(pattern, line, re.IGNORECASE):
                return failure, line.strip()[:500], found
    return None


def _signal_below(remains: Remains) -> int:
    """Which signal ended a process below the engine's, negative; 0 = none, as far as the engine says."""
    words = _last_words(remains)
    return int(words[2].groupdict().get("signal") or 0) if words else 0


def _assertion(tail: Sequence[str]) -> str:
    """A failed assertion of native code, `file.cpp:12: what`, without the folder it was built in; empty = none."""
    for line in reversed(tail):
        if found := re.search(r"[\w.-]+\.(c|cc|cpp|cu|h|hpp):\d+: .+", line):
            return found[0][:TAIL_CHARACTERS]
    return ""


def _quote(tail: Sequence[str]) -> str:
    """The exception, where Python ended with one (or what it says is above it); else the last lines."""
    lines = [line.strip() for line in tail if line.strip()]
    for line in reversed(lines[-_NEAR_THE_END:]):
        if re.match(_EXCEPTION, line):
            logged = (re.search(rf" ({_EXCEPTION}: .*)", other) for other in reversed(lines)) if _ABOVE in line else ()
            return f" {next((found[1] for found in logged if found), line)[:TAIL_CHARACTERS]}"
    text = " | ".join(lines)
    return f" Its last lines: {text[-TAIL_CHARACTERS:]}" if text else ""
