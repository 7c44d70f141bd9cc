"""`python -m llmservice_cli.local.launch`: bring and serve a model for a client of the gateway, or forget its files.

What is asked stands on standard input (JSON); lines of JSON on standard output tell of it: the `service`, how many
bytes of how many are here, an `error`. What happens to the service is told by the instance, as of any other.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmservice_cli.commands.models import forget
from llmservice_cli.local.client import Control
from llmservice_cli.local.offer import Offer
from llmservice_cli.local.submit import Submission
from llmservice_cli.ollama.store import kept, stores
from llmservice_cli.places import Places
from llmservice_cli.wanted.service import Options, manifest, serves, version_meant
from llmservice_cli.wanted.words import meant
from llmservice_runtime.contract.errors import UserError

Json = dict[str, Any]
Tell = Callable[[Json], None]
TELL_SECONDS = 0.2
"""Between two lines of a download."""


def main() -> int:
    """0; 1 after an error that was told."""
    asked = json.loads(sys.stdin.buffer.read())
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whoever prints here prints to the instance's log

    def tell(told: Json) -> None:
        lines.write(json.dumps(told) + "\n")
        lines.flush()

    places = Places.from_environment()
    try:
        if "forget" in asked:
            forget(asked["forget"]["uri"], asked["forget"].get("include") or [], places)
        else:
            launch(asked, places, tell)
    except UserError as error:
        tell({"error": {"reason": error.reason, "remedy": error.remedy, "failure": str(error.failure)}})
        return 1
    return 0


def launch(asked: Json, places: Places, tell: Tell) -> None:
    """Serve it. UserError when the word means nothing that can be served."""
    found = meant(asked["word"], kept(stores()), places.cache, Path("/"))
    if asked["choice"]:
        found = replace(found, choice=asked["choice"])
    version = version_meant(found, places)
    control = Control(places.state)
    services = control.snapshot()["services"]
    if asked["again"] and (name := serves(services, version)):
        tell({"service": name})
        return
    wanted = manifest(version, Options(asked["name"], None), services, asked["more"])
    name = wanted.service.full_name
    if any(name == f"{(meta := entry['object']['metadata'])['namespace']}/{meta['name']}" for entry in services):
        tell({"error": {"reason": "", "remedy": "", "failure": "", "taken": name}})
        return
    tell({"service": name})
    submission = Submission(control, places, _say, tell=False, offer=Offer(ask=lambda _: None), brief=True)
    submission.run([wanted], lambda: Told(tell), None)


def _say(text: str) -> None:
    print(text, flush=True)


class Told:
    """`Progress` as lines."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._done = self._total = 0
        self._said = 0.0

    def start(self, label: str, total: int) -> None:
        """How much it is."""
        self._done, self._total = 0, total
        self._line()

    def advance(self, count: int) -> None:
        """A line now and then."""
        self._done += count
        if time.monotonic() - self._said >= TELL_SECONDS:
            self._line()

    def waiting(self, label: str, holder: str, seconds: float, done: int, total: int) -> None:
        """Another process brings it."""
        self._done, self._total = done, total
        if time.monotonic() - self._said >= TELL_SECONDS:
            self._line()

    def finish(self, complete: bool) -> None:
        """The last one."""
        self._line()

    def _line(self) -> None:
        self._said = time.monotonic()
        if self._total:
            self._tell({"done": self._done, "total": self._total})


if __name__ == "__main__":
    sys.exit(main())
