"""The output of a batch: whole lines, whatever ends the process, so that the next one goes on where it ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmservice_cli.local.disk import FULL
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass

Result = Mapping[str, Any]
"""A line of it: id, custom_id, response {status_code, request_id, body}, error {code, message}."""
_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
"""JSON may have these as they are, and some readers of lines take them for the end of one."""
BEGINS = b'{"id": "batch_req_'
"""What every line of ours begins with."""
_NAME = re.compile(r"batch_req_([0-9]{1,18})_[0-9a-f]{16}")


class Results:
    """An output that this process alone writes to. `names` are those of the batch's lines, by number."""

    def __init__(self, path: Path, batch: Path, names: Mapping[int, str]) -> None:
        """UserError where it can't be written, is the batch itself, or another process writes to it."""
        self.path = path
        self.done: set[int] = set()
        """Numbers of the lines that it has."""
        self._batch = batch
        self._names = names
        self._fd = self._opened(path)

    def close(self) -> None:
        """Let others write to it."""
        os.close(self._fd)

    def read(self, known: Callable[[Result], None], keep: Callable[[Result], bool] = lambda _: True) -> None:
        """Tell of what it has, from before. A last line that was cut off goes, and so does what is not to be kept.

        UserError where it has answers to something else.
        """
        dropped = False
        for result, _ in self._whole():
            dropped = dropped or not keep(result)
        if dropped:
            self._rewrite(keep)
        for result, _ in self._whole():
            self.done.add(_number(result))
            known(result)

    def add(self, result: Result) -> None:
        """One line more. UserError when it can't be written; what is there stays whole."""
        text = json.dumps(result, ensure_ascii=False).translate(_BREAKS)
        self._write(f"{text}\n".encode(errors="backslashreplace"))  # half of a surrogate pair: JSON writes it so too
        self.done.add(_number(result))

    def _opened(self, path: Path) -> int:
        with self._telling():
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise UserError(f"{self.path} is no file.", "Give a file: a batch goes on by what is in it.")
            if os.path.samestat(found, self._batch.stat()):
                raise UserError(f"{self.path} is the batch itself.", "Give another file for the answers (-o).")
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(found, path):  # who had it until now put another file into its place
                raise BlockingIOError
        except BlockingIOError:
            os.close(fd)
            said = "Wait for it to end, or give another file for the answers (-o)."
            raise UserError(f"another process writes to {self.path}.", said) from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _whole(self) -> Iterator[tuple[Result, bytes]]:
        """Its lines. What a process that was killed left of one is cut off; whole but for its end, it gets that."""
        end = 0
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            for number, raw in enumerate(file, 1):
                result = self._result(raw)
                if result is None and not _is_cut(raw):
                    raise UserError(
                        f"{self.path}: line {number} is no answer to a line of {self._batch}, as it is now.",
                        "Give another file for the answers (-o), or the batch that this one belongs to.",
                    )
                if result is None:
                    break
                yield result, raw
                end += len(raw)
                if not raw.endswith(b"\n"):
                    self._write(b"\n")
                    end += 1
        with self._telling():
            os.ftruncate(self._fd, end)

    def _result(self, raw: bytes) -> Result | None:
        """What stands in a line, if it answers one of the batch."""
        try:
            found = json.loads(raw)
        except ValueError:
            return None
        name = found.get("id") if isinstance(found, dict) else None
        known = isinstance(name, str) and _NAME.fullmatch(name) and self._names.get(_number(found)) == name
        return found if known else None

    def _rewrite(self, keep: Callable[[Result], bool]) -> None:
        """Only what is to be kept, in a file that takes this one's place when it is whole."""
        path = self.path.resolve()
        part = path.with_name(f".{path.name}.part")
        with self._telling():
            try:
                part.unlink(missing_ok=True)
                with open(part, "xb", opener=_for_its_owner) as file:
                    for result, raw in self._whole():
                        if keep(result):
                            file.write(raw if raw.endswith(b"\n") else raw + b"\n")
                    file.flush()
                    os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(self._fd).st_mode))
                    os.fsync(file.fileno())
                fd = self._opened(part)
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)  # a full disk needs its room
                raise
        os.close(self._fd)
        self._fd = fd

    def _write(self, data: bytes) -> None:
        before = os.fstat(self._fd).st_size
        with self._telling():
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(self._fd, left) :]
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, before)
                raise

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            full = error.errno in FULL
            remedy = "Free space there, then run the same command again: it goes on where it ended." if full else ""
            failure = FailureClass.DISK_FULL if full else FailureClass.VOLUME_FAILED
            raise UserError(f"{self.path} can't be written: {why}.", remedy, failure) from None


def _is_cut(raw: bytes) -> bool:
    """Whether it may be what is left of a last line of ours: its beginning, or the zeros of a machine that lost power.
    Anything else is somebody's."""
    try:
        json.loads(raw)
        return False
    except ValueError:
        begins = raw.startswith(BEGINS) or BEGINS.startswith(raw)
        return not raw.endswith(b"\n") and (begins or not raw.strip(b"\0"))


def _is_at(found: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(found, path.stat())
    except FileNotFoundError:
        return False


def _for_its_owner(path: str, flags: int) -> int:
    """Answers are read by nobody else before the file has the mode of the one that it follows."""
    return os.open(path, flags, 0o600)


def _number(result: Result) -> int:
    found = _NAME.fullmatch(result["id"])
    assert found is not None
    return int(found[1])
