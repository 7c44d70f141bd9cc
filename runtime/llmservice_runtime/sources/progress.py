"""Showing a download: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from llmservice_runtime.contract.plain import plain, raw

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_SECONDS = 10.0
"""A log gets a line this often at most, and one at the start and the end."""
WAIT_LINE_SECONDS = 30.0


class Progress(Protocol):
    """Told by one thread at a time."""

    def start(self, label: str, total: int) -> None:
        """A download of `total` bytes begins."""

    def advance(self, count: int) -> None:
        """`count` more bytes are on disk (negative: some were dropped)."""

    def waiting(self, label: str, holder: str, seconds: float, done: int, total: int) -> None:
        """Another downloader (`holder`) is at it since `seconds` and has `done` of `total` bytes; called often."""

    def finish(self, complete: bool) -> None:
        """The end of what `start` began."""


class Silent:
    """Shows nothing."""

    def start(self, label: str, total: int) -> None: ...
    def advance(self, count: int) -> None: ...
    def waiting(self, label: str, holder: str, seconds: float, done: int, total: int) -> None: ...
    def finish(self, complete: bool) -> None: ...


class Bar:
    """A tqdm bar."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm[Any] | None = None
        self._told = False

    def start(self, label: str, total: int) -> None:
        """Draw it."""
        from tqdm import tqdm

        self._bar = tqdm(
            total=total,
            desc=plain(label),
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            file=self._stream,
            dynamic_ncols=True,
        )

    def advance(self, count: int) -> None:
        """Move it."""
        if self._bar is not None:
            self._bar.update(count)

    def waiting(self, label: str, holder: str, seconds: float, done: int, total: int) -> None:
        """One line, then seconds that count in place."""
        self._stream.write(f"\r{_other(label, holder, done, total)} {seconds:.0f} s\x1b[K")
        self._stream.flush()
        self._told = True

    def finish(self, complete: bool) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif self._told:
            self._stream.write("\n")
        self._told = False


class Lines:
    """Lines of a log: start, every ten seconds, end."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._label = ""
        self._total = self._done = self._done_said = 0
        self._began = self._said = clock()
        self._said_waiting: float | None = None

    def start(self, label: str, total: int) -> None:
        """First line."""
        self._label, self._total, self._done, self._done_said = label, total, 0, 0
        self._began = self._said = self._clock()
        self._write(f"{label}: downloading {size(total)}")

    def advance(self, count: int) -> None:
        """A line when the last one is ten seconds old."""
        self._done += count
        now = self._clock()
        if now - self._said >= LINE_SECONDS:
            percent = 100 * self._done // self._total if self._total else 100
            self._write(f"{self._label}: {percent}%, {size(self._done)} of {size(self._total)}{self._rest(now)}")
            self._said, self._done_said = now, self._done

    def waiting(self, label: str, holder: str, seconds: float, done: int, total: int) -> None:
        """A line at once, then every half minute."""
        if self._said_waiting is None or seconds - self._said_waiting >= WAIT_LINE_SECONDS:
            self._said_waiting = seconds
            self._write(_other(label, holder, done, total) + (f" {seconds:.0f} s" if seconds >= 1 else ""))

    def finish(self, complete: bool) -> None:
        """Last line."""
        if self._label:
            seconds = self._clock() - self._began
            state = "downloaded" if complete else "stopped at"
            self._write(f"{self._label}: {state} {size(self._done)} in {seconds:.0f} s")
        self._label, self._said_waiting = "", None

    def _rest(self, now: float) -> str:
        speed = (self._done - self._done_said) / max(now - self._said, 1e-9)
        return f", {size(int(speed))}/s, {(self._total - self._done) / speed:.0f} s left" if speed > 0 else ""


def _other(label: str, holder: str, done: int, total: int) -> str:
    return f"{plain(label)}: {plain(holder)} is downloading it and has {size(done)} of {size(total)}; waiting"


def progress_for(stream: TextIO | None = None) -> Progress:
    """A bar when `stream` (standard error) is a terminal, else lines written to it."""
    out = sys.stderr if stream is None else stream
    if out.isatty():
        return Bar(raw(out))

    def write(line: str) -> None:
        out.write(line + "\n")
        out.flush()

    return Lines(write)


def size(count: int) -> str:
    """Bytes in words."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
