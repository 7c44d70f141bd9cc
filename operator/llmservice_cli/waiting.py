"""What a question waits for, on standard error, until its answer begins: a service that starts, and for how long."""

from __future__ import annotations

import sys
import threading
from typing import Any

from llmservice_api.conditions import Reason
from llmservice_cli.local.client import Control
from llmservice_cli.local.tell import condition
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.plain import plain, raw

QUIET_SECONDS = 1.0
"""An answer that begins sooner is waited for in silence."""
LOOK_SECONDS = 1.0
"""Between two looks where nothing changes: the time that is left does."""


def waits_for(entry: dict[str, Any]) -> tuple[str, str]:
    """(reason, sentence) of what requests to a service in a snapshot wait for; empty when one of its replicas takes
    them."""
    ready, progress = condition(entry, "Ready"), condition(entry, "Progressing")
    if progress["reason"] == Reason.GIVES_WAY:
        return progress["reason"], f"{progress['message']} Then this waits for its next turn."
    if any(facts["ready"] for facts in entry["replicas"]):
        return "", ""
    if ready["reason"] == Reason.IDLE:
        return ready["reason"], "It is idle, and is being started."
    etas = [facts["eta"] for facts in entry["replicas"] if facts["eta"] is not None]
    left = f" It is ready in about {min(etas)} s." if etas else ""
    return f"{ready['reason']} {bool(etas)}", f"{ready['message']}{left}"


class Waiting:
    """Watches a service by its full name from `begin` to `end`. On a terminal one line is drawn anew, and removed at
    the end; elsewhere each thing that is waited for is said once."""

    def __init__(self, control: Control, name: str) -> None:
        self._control = control
        self._name = name
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._drawn = False

    def begin(self) -> None:
        """A question was asked."""
        self._over = threading.Event()
        threading.Thread(target=self._watch, args=(self._over,), daemon=True, name="waiting").start()

    def end(self) -> None:
        """Its answer begins, or there is none."""
        with self._lock:
            self._over.set()
            if self._drawn:
                self._drawn = False
                self._draw("")

    def _watch(self, over: threading.Event) -> None:
        version, pause, said = -1, QUIET_SECONDS, set[str]()
        while not over.wait(pause):
            try:
                now = self._control.snapshot(version, LOOK_SECONDS)
            except UserError:
                return  # the question itself is told
            version, pause = now["version"], 0.1
            entry = next((one for one in now["services"] if _name(one) == self._name), None)
            reason, text = waits_for(entry) if entry is not None else ("", "")
            with self._lock:
                if over.is_set():
                    return
                self._say(reason, f"{self._name}: {text}" if text else "", said)

    def _say(self, reason: str, text: str, said: set[str]) -> None:
        if sys.stderr.isatty():
            self._drawn = bool(text)
            self._draw(plain(text))
        elif text and reason not in said:
            said.add(reason)
            print(text, file=sys.stderr, flush=True)

    def _draw(self, text: str) -> None:
        terminal = raw(sys.stderr)
        terminal.write(f"\r\x1b[K{text}")
        terminal.flush()


def _name(entry: dict[str, Any]) -> str:
    meta = entry["object"]["metadata"]
    return f"{meta['namespace']}/{meta['name']}"
