"""What is served for a batch alone: it ends with the batch, also with one that is killed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmservice_api.manifest import load_manifests
from llmservice_cli.commands.ps import full_name
from llmservice_cli.local.client import Control, NoInstanceError
from llmservice_cli.local.front import Front
from llmservice_cli.local.joining import joined
from llmservice_cli.local.submit import Submission
from llmservice_cli.places import Places
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.sources.progress import progress_for

ANY_PORT = 0
"""Who serves for longer has the usual one."""


@contextlib.contextmanager
def serving(files: list[Path], places: Places, say: Callable[[str], None]) -> Iterator[str]:
    """The base URL of what serves these manifests; those that did not run before end when this is left. UserError where
    none can be served."""
    manifests = load_manifests(files)
    with joined(places.state, ANY_PORT, Front()) as started:
        control = Control(places.state)
        now = control.snapshot()
        if started:
            say(f"gateway at {now['url']}, in the background, for as long as this takes")
        mine = to_borrow([manifest.service.full_name for manifest in manifests], now)
        with control.lent(mine):  # the instance ends them when this process is no more
            outcome = Submission(control, places, say, tell=True).run(manifests, progress_for, None)
            if not outcome.ready and not outcome.stopped:
                raise UserError("what the manifest says could not be served.", "See above, and `llmservice logs`.")
            try:
                yield str(now["url"])
            finally:
                _end(control, mine)


def to_borrow(names: list[str], now: dict[str, Any]) -> list[str]:
    """Those that end with who had them: they do not run, are being stopped, or are another's for a while too."""
    stay = {full_name(entry) for entry in now["services"] if not entry.get("stopping")} - now.get("lent", {}).keys()
    return [name for name in names if name not in stay]


def _end(control: Control, mine: list[str]) -> None:
    """And wait until they have left memory, those that nobody else has; an instance that is left with nothing ends."""
    with contextlib.suppress(NoInstanceError):
        now = control.snapshot()
        there, lent = set(map(full_name, now["services"])), now.get("lent", {})
        if names := [name for name in mine if name in there and lent.get(name, 0) < 2]:
            for _ in control.down(names, force=True):
                pass
