"""`python -m llmservice_cli.local.launch`: bring and serve a model for a client of the gateway, or forget its files.

What is asked is a line on standard input (JSON); lines of JSON on standard output tell of it: the `service` that is to
be, which waits for a second line that lets it, or one that is `there`; how many bytes of how many are here, an `error`.
It ends when the service can start, or `failed`: what becomes of it then is told by the instance, as of any other.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from llmservice_api.labels import LAUNCHED
from llmservice_api.model_words import scheme_of
from llmservice_cli.commands.models import forget
from llmservice_cli.commands.ps import full_name, goes
from llmservice_cli.local.client import Control
from llmservice_cli.local.offer import Offer
from llmservice_cli.local.submit import Submission
from llmservice_cli.ollama.store import kept, stores
from llmservice_cli.places import Places
from llmservice_cli.wanted.service import Options, Version, has, manifest, serves, version_meant
from llmservice_cli.wanted.words import Meant, meant
from llmservice_runtime.contract.bounds import ANY
from llmservice_runtime.contract.errors import UserError

Json = dict[str, Any]
Tell = Callable[[Json], None]
TELL_SECONDS = 0.2
"""Between two lines of a download."""


def main() -> int:
    """0; 1 after an error that was told."""
    asked = json.loads(sys.stdin.buffer.readline())
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whoever prints here prints to the instance's log

    def tell(told: Json) -> None:
        with contextlib.suppress(BrokenPipeError):  # the instance is gone, which is told to who asks it
            lines.write(json.dumps(told) + "\n")
            lines.flush()

    places = Places.from_environment()
    try:
        if "forget" in asked:
            forget(asked["forget"]["uri"], asked["forget"].get("include") or [], places)
        else:
            launch(asked, places, tell, lambda: bool(sys.stdin.buffer.readline()))
    except UserError as error:
        tell({"error": {"reason": error.reason, "remedy": error.remedy, "failure": str(error.failure)}})
        return 1
    return 0


def launch(asked: Json, places: Places, tell: Tell, may: Callable[[], bool]) -> None:
    """Hand it over. UserError when the word means nothing that can be served, or something that may not be."""
    found = meant(asked["word"], kept(stores()), places.cache, None)
    check(found, asked["sources"])
    if asked["choice"]:
        found = replace(found, choice=asked["choice"])
    version = version_meant(found, places)
    control = Control(places.state)
    services = [entry for entry in control.snapshot()["services"] if not goes(entry)]
    if asked["again"] and (name := serves(services, version) or _comes(services, version)):
        tell({"there": name})
        return
    wanted = manifest(version, Options(asked["name"], None), services, asked["more"])
    name = wanted.service.full_name
    there = next((entry for entry in services if full_name(entry) == name), None)
    anew = asked["again"] and there is not None and came_to_nothing(there)
    if there is not None and not anew:
        tell({"error": {"reason": "", "remedy": "", "failure": "", "taken": name}})
        return
    tell({"service": name, "model": version.model, "anew": anew})
    if not may():
        return
    submission = Submission(control, places, _say, tell=False, offer=Offer(ask=lambda _: None), brief=True)
    if submission.run([wanted], lambda: Told(tell), 0.0).failed:
        tell({"failed": name})


def check(found: Meant, sources: Sequence[str]) -> None:
    """UserError for what comes from where nothing may, however it was spelled. What Ollama has is here already."""
    scheme = scheme_of(found.uri)
    if found.ollama is None and not {scheme, ANY} & set(sources):
        raise UserError(
            f"{found.uri} is not launched here, only models from {', '.join(sources)}.",
            f"Start the instance with `llmservice up --allow-launch {scheme or 'SOURCE'}` to let them.",
        )


def _comes(services: Sequence[Json], version: Version) -> str:
    """A service that has the model and is being prepared; one that failed, too, where only a person may try again."""
    return next((full_name(one) for one in services if has(one, version) and not came_to_nothing(one)), "")


def came_to_nothing(entry: Json) -> bool:
    """Whether a service of a snapshot was launched by a client and could not be prepared."""
    launched = LAUNCHED in (entry["object"]["metadata"].get("labels") or {})
    return launched and entry["engine"] is None and entry["settled"]


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
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a download that nobody waits for any more would keep it, and is continued next time
