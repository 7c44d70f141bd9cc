"""The general plug-in, which vLLM loads in each of its processes: none outlives the one that started it.

vLLM's own watching ends its children when the API server ends in order. The kernel does when it is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import NoReturn

PR_SET_PDEATHSIG = 1
ORPHANED = 3
CORE_FAILED = "Engine core initialization failed"
CODE_SECONDS = 5.0
"""What the kernel may take to be done with a process that it killed."""
_libc = ctypes.CDLL(None)


def arm() -> None:
    """In the API server: die with the supervisor, and report. In what it starts: die with the parent.

    vLLM forks some of its processes on some platforms, and a fork forgets whom to die with.
    """
    from llmservice_runtime.engines.vllm.plugins import ENTRY_POINTS, PROCESSES, REGISTRATION
    from llmservice_runtime.engines.vllm.serve.handover import is_api_server

    if not is_api_server():
        parent = multiprocessing.parent_process()
        _die_with(parent.pid if parent is not None else os.getppid())
        importlib.import_module(REGISTRATION)
        return
    from llmservice_runtime.contract.report import Phase
    from llmservice_runtime.engines.vllm.serve.link import LINK
    from llmservice_runtime.openai.reports import die_with_parent

    die_with_parent()
    watch_start()
    os.register_at_fork(after_in_child=_forked)
    # Before anything is loaded: of what can't be imported later vLLM writes a line, and serves without it.
    others = (point for group in ENTRY_POINTS.values() for point in group.items())
    for name, value in ((PROCESSES, REGISTRATION), *others):
        with LINK.or_end(name):
            importlib.import_module(value.partition(":")[0])
    LINK.came(PROCESSES, Phase.LOADING)


def watch_start() -> None:
    """An engine core that ends while it starts is an exception in the API server: end as the core did, once that is
    told. The exception's text has no exit code where vLLM looked before the kernel knew it."""
    began: list[BaseProcess] = []
    tell, start = sys.excepthook, BaseProcess.start

    def remember(process: BaseProcess) -> None:
        start(process)
        began.append(process)

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        tell(kind, error, trace)
        if CORE_FAILED in str(error) and (codes := [code for process in began if (code := killed(process))]):
            sys.stderr.flush()
            end_as(codes)

    BaseProcess.start = remember  # type: ignore[assignment]
    sys.excepthook = end


def killed(process: BaseProcess) -> int:
    """By which signal it was ended, as a negative number, when that was not vLLM's own asking it to end; else 0."""
    with contextlib.suppress(ValueError):  # who closed it has its exit code, and we have not
        process.join(CODE_SECONDS)
        code = process.exitcode or 0
        return code if code < 0 and code != -signal.SIGTERM else 0
    return 0


def follow() -> None:
    """Of a process that was just begun: die with the one that began it, before anything is imported. Whether that died
    already `arm` sees."""
    _die_with(None)


def end_as(codes: Iterable[int]) -> NoReturn:
    """End as an engine core did, by its exit code: the supervisor sees only this process, and tells why by how it
    ends."""
    for number in (-code for code in codes if code < 0):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(1)


def _forked() -> None:
    """`os.fork` alone comes here; a program that is executed does not."""
    _die_with(os.getppid())


def _die_with(parent: int | None) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:  # it died just now
        os._exit(ORPHANED)
