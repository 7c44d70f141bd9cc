"""The console script: from the first moment to the last, nothing that a terminal, a pipe or a disk does is a traceback.

Imports next to nothing, so that Ctrl-C finds its handler set.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys


def leave_on_interrupt() -> None:
    """Ctrl-C ends this process at once, with 130. What must not be left half done knows its own way: an instance takes
    the signal over, downloads are continued, the kernel frees locks. A handler that somebody chose (nohup) stays."""
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_DFL):
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # kept back by the script that began us


def run() -> int:
    """`llmservice`; the exit code."""
    leave_on_interrupt()
    _open_standard_files()
    from llmservice_cli.main import main

    code, told = 1, False
    try:
        code = main()
    except OSError as error:
        code, told = _told(error)
    finally:
        code = _flushed(code, told)
        gc.freeze()  # a quarter of what `plan` takes: Python looks through all that it made once more when it ends
    return code


def _open_standard_files() -> None:
    """One that is closed (`>&-`) would be the number of the next file that is opened: a lock, a socket, a log."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _told(error: OSError) -> tuple[int, bool]:
    """Reading, writing or printing failed in a place that has no better words. The exit code, and whether it was
    standard output that failed."""
    from llmservice_cli.told import asks_for_json, tell, tell_program
    from llmservice_runtime.contract.errors import UserError
    from llmservice_runtime.contract.plain import STANDARD_OUTPUT

    if isinstance(error, BrokenPipeError):  # `| head` has seen enough
        return 0, True
    if error.filename == STANDARD_OUTPUT:
        _tell_unwritable(error)
        return 1, True
    where = f"{error.filename}: " if error.filename else ""
    with contextlib.suppress(OSError):
        say = tell_program if asks_for_json(sys.argv[1:]) else tell
        say(UserError(f"{where}{error.strerror or error}."))
    return 1, False


def _flushed(code: int, told: bool) -> int:
    """What is still to be printed fails here, where it can be told (once), and not in the interpreter's last
    moments."""
    try:
        sys.stdout.flush()
        return code
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return code
        if not told:
            _tell_unwritable(error)
        return code or 1


def _tell_unwritable(error: OSError) -> None:
    with contextlib.suppress(OSError):
        print(f"error: standard output can't be written: {error.strerror}.", file=sys.stderr)
