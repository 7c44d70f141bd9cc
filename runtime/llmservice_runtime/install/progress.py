"""Showing that a build moves: one line that is rewritten on a terminal, a line now and then in a log."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from llmservice_runtime.contract.plain import plain, raw

LOG_SECONDS = 10.0
"""In a log, a line at most this often, and at least this often while output comes."""
LINE_COLUMNS = 78

_STEPS = re.compile(r"^\s*\[\s*(\d+)/(\d+)\]\s*(.*)")
_PERCENT = re.compile(r"^\s*\[\s*(\d+)%\]\s*(.*)")
_SOURCE = re.compile(r"([\w.+-]+\.(?:cpp|cc|c|cu|S))(?:\s|$|\.o\b)")
_STAGES = (
    ("Downloading", "downloading the source"),
    ("Using cached", "reading the source"),
    ("Installing build dependencies", "preparing the build"),
    ("*** Configuring CMake", "configuring"),
    ("*** Making wheel", "packing"),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """`fraction` 0..1, None before compiling starts; `what` is being done."""

    fraction: float | None
    what: str


def parse_progress(line: str) -> Progress | None:
    """What a line of the build's output says about progress; None when it says nothing."""
    if match := _STEPS.match(line):
        done, total, rest = int(match[1]), int(match[2]), match[3]
        return Progress(min(1.0, done / total) if total else None, _doing(rest))
    if match := _PERCENT.match(line):
        return Progress(min(1.0, int(match[1]) / 100), _doing(match[2]))
    for start, what in _STAGES:
        if line.strip().startswith(start):
            return Progress(None, what)
    return None


def _doing(command: str) -> str:
    source = _SOURCE.findall(command)
    if " -c " in f" {command} " and source:
        return f"compiling {source[-1]}"
    return f"compiling {source[0]}" if command.startswith("Building") and source else "linking"


@dataclass(slots=True)
class ProgressLine:
    """Writes progress to `out` (stderr); `clock` gives monotonic seconds."""

    title: str
    out: TextIO = field(default_factory=lambda: raw(sys.stderr))
    clock: Callable[[], float] = time.monotonic
    _started: float = 0.0
    _shown: float = -1e9
    _last: Progress = Progress(None, "starting")

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._show(self._last)

    def feed(self, line: str) -> None:
        """One line of build output."""
        progress = parse_progress(line)
        if progress is not None and progress.fraction is None and self._last.fraction is not None:
            progress = None if progress.what != "packing" else Progress(1.0, "packing")
        self.advance(progress or self._last)

    def advance(self, progress: Progress) -> None:
        """Show where it stands, unless a line was shown just now."""
        self._last = progress
        pause = 0.2 if self.out.isatty() else LOG_SECONDS
        if self.clock() - self._shown >= pause:
            self._show(self._last)

    def tick(self) -> None:
        """Nothing new; show how long it takes."""
        self.advance(self._last)

    def done(self, what: str) -> None:
        """The last line stays."""
        self._show(Progress(1.0, what))
        if self.out.isatty():
            self.out.write("\n")
            self.out.flush()

    def _show(self, progress: Progress) -> None:
        self._shown = self.clock()
        percent = "     " if progress.fraction is None else f"{100 * progress.fraction:3.0f} %"
        text = f"[{percent}] {self.title}: {plain(progress.what)}, {elapsed(self._shown - self._started)}"
        if self.out.isatty():
            self.out.write("\r" + text[:LINE_COLUMNS].ljust(LINE_COLUMNS))
        else:
            self.out.write(text + "\n")
        self.out.flush()


def elapsed(seconds: float) -> str:
    """2m10s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
