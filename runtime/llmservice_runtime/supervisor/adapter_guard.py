"""Adapters that an engine died of while it loaded them: each is refused, by name, until it is another.

What is kept outlives the supervisor: a container that has no memory left is killed as a whole. Others end containers as
well, so an engine that died with its supervisor makes an adapter doubtful, and the second one in a row refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from llmservice_runtime.contract.adapter_note import take_note
from llmservice_runtime.contract.adapters import Fetched
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.supervisor.state import HOPELESS

KEPT = "refused.json"
UNSEEN = "the replica was ended, twice in a row."
"""How an engine died whose supervisor died with it."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """`files` as they were then: names, sizes, times. `doubtful`: not refused yet."""

    name: str
    path: str
    files: str
    how: str
    doubtful: bool = False


class AdapterGuard:
    """`folder` is this replica's own, made when it is missing; empty = nothing is noted, and nothing refused."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None
        self._refused: dict[str, _Refused] = {}
        if self._folder is None:
            return
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = (_Refused(**body) for body in json.loads((self._folder / KEPT).read_text()))
            self._refused = {one.name: one for one in found}
        self._doubt()

    def _doubt(self) -> None:
        """The engine before this supervisor was loading one when both ended."""
        if self._folder is None or (adapter := take_note(self._folder)) is None:
            return
        one = _Refused(adapter.name, adapter.path, _files(adapter.path), UNSEEN, doubtful=True)
        again = self._refused.get(adapter.name) == one
        self._refused[adapter.name] = replace(one, doubtful=not again)
        self._keep()

    def survived(self, name: str) -> None:
        """An engine has loaded it, or could not, and goes on: the one before was ended by something else."""
        if (one := self._refused.get(name)) is not None and one.doubtful:
            del self._refused[name]
            self._keep()

    def blame(self, how: str) -> str:
        """The engine died, and `how`: the name of the adapter that it was loading, which is refused from now on. Empty
        = it was loading none."""
        if self._folder is None or (adapter := take_note(self._folder)) is None:
            return ""
        self._refused[adapter.name] = _Refused(adapter.name, adapter.path, _files(adapter.path), how)
        self._keep()
        return adapter.name

    def acquit(self) -> None:
        """The engine ended because it was to, whatever it was doing."""
        if self._folder is not None:
            take_note(self._folder)

    def refusal(self, adapter: Fetched) -> str:
        """Why an engine is not told of it; empty = it may be loaded."""
        one = self._refused.get(adapter.name)
        if one is None or one.doubtful or (one.path, one.files) != (adapter.path, _files(adapter.path)):
            return ""
        return (
            f"The engine died while it loaded this adapter: {one.how} The adapter is left out until it is another one,"
            " and the others are served. Save it again, or merge it into the model; to have it tried once more as it"
            " is, take it away and then add it again."
        )

    def wanted(self, names: Collection[str]) -> None:
        """These are asked for: one that is not any more is tried again when it comes back."""
        if gone := self._refused.keys() - set(names):
            for name in gone:
                del self._refused[name]
            self._keep()

    def _keep(self) -> None:
        assert self._folder is not None
        with suppress(OSError):
            (draft := self._folder / f"{KEPT}.new").write_text(json.dumps([asdict(o) for o in self._refused.values()]))
            draft.replace(self._folder / KEPT)


def _files(path: str) -> str:
    """What tells files from others that are put in their place."""
    place = Path(path)
    try:
        found = sorted(place.iterdir()) if place.is_dir() else [place]
        told = ((file.name, file.stat()) for file in found)
        return json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in told])
    except OSError:
        return ""


def died_of(adapter: str, record: FailureRecord) -> FailureRecord:
    """The engine's end, when it was loading this one. Whatever it is, the next start is another one."""
    failure = FailureClass.CRASHED if record.failure in HOPELESS else record.failure
    message = f"{record.message} It was loading the adapter {adapter}."
    remedy = f"It starts again without this adapter; see what status.adapters says of {adapter}."
    return replace(record, failure=failure, message=message, remedy=remedy)
