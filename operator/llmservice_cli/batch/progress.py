"""How far a batch is, on standard error: one line that is drawn anew on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import deque
from typing import TextIO

from llmservice_cli.batch.tally import Tally, time_of
from llmservice_runtime.contract.plain import plain, raw

DRAWN_SECONDS, SAID_SECONDS = 1.0, 30.0
"""Between two looks, on a terminal and elsewhere."""
RATE_SECONDS = 60.0
"""What is left is told by the lines of so long."""


class Progress:
    """Tells of a tally until `end`."""

    def __init__(self, tally: Tally, out: TextIO) -> None:
        self._tally = tally
        self._out = out
        self._drawn = False
        self._terminal = out.isatty()
        self._waits: str | None = None
        self._before: deque[tuple[float, int]] = deque([(time.monotonic(), tally.done)])

    def waits(self, why: str | None) -> None:
        """What the server says while it has to be waited for; None: it answers."""
        self._waits = why

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(DRAWN_SECONDS if self._terminal else SAID_SECONDS)
            self._tell(self.line(time.monotonic()))

    def line(self, now: float) -> str:
        """What is told at this moment."""
        tally, before = self._tally, self._before
        before.append((now, tally.done))
        while len(before) > 2 and now - before[0][0] > RATE_SECONDS:
            before.popleft()
        text = f"{tally.done:,} of {tally.lines:,} lines"
        text += f", {tally.failed:,} failed" if tally.failed else ""
        rate = (tally.done - before[0][1]) / max(now - before[0][0], 1e-9)
        if rate > 0:
            text += f", {rate:.1f} a second, about {time_of((tally.lines - tally.done) / rate)} left"
        return text + (f"; waiting: {self._waits}" if self._waits else "")

    def end(self) -> None:
        """The line goes."""
        if self._drawn:
            self._draw("")

    def _tell(self, text: str) -> None:
        if self._terminal:
            self._draw(plain(text))
        else:
            print(text, file=self._out, flush=True)

    def _draw(self, text: str) -> None:
        terminal, columns = raw(self._out), shutil.get_terminal_size().columns
        terminal.write(f"\r\x1b[K{text if len(text) < columns else text[: columns - 4] + '...'}")
        terminal.flush()
        self._drawn = bool(text)
