"""The adapters of one replica: what the file asks for is fetched by a process of its own, then the engine is told.

All on the supervisor's event loop. A program fetches, so that libraries of hubs, and the guard on what they may reach,
stay out of this process.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.adapters import (
    LARGEST,
    Adapter,
    AdapterState,
    AdapterStatus,
    Fetched,
    order_line,
    parse_adapters,
    parse_tried,
)
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.in_use import held
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor.adapter_guard import AdapterGuard
from llmservice_runtime.supervisor.reports import AdaptersReport

POLL_SECONDS = 1.0
FIRST_SECONDS = 120.0
"""An engine waits so long at most, from the supervisor's start, for adapters that are still being fetched."""
PASSING = frozenset(
    {
        FailureClass.HUB_UNREACHABLE, FailureClass.MODEL_DAMAGED, FailureClass.DISK_FULL, FailureClass.CRASHED,
        FailureClass.OUT_OF_MEMORY, FailureClass.OUT_OF_GPU_MEMORY,
    }
)  # fmt: skip
"""What another try may mend."""
BROKE = FailureClass.HUB_UNREACHABLE
"""Of a program that fetches and comes to an end of its own: CRASHED is of engines, and keeps others from a try."""
RETRY_SECONDS = 10.0, 300.0
"""Before the next try: this, then twice as long, up to that."""
TOGETHER = 3
"""Programs that fetch side by side: some 40 MB each, and one whose source hangs holds up no other."""


@dataclass(slots=True)
class _Held:
    """One adapter of this replica. `fetched` may still be the one before, while another revision is on its way."""

    wanted: Adapter
    status: AdapterStatus
    fetched: Fetched | None = None
    revision: str = ""
    rank: int = 0
    job: asyncio.Task[None] | None = None
    tries: int = 0
    retry_at: float | None = None
    loaded: bool = False
    marks: ExitStack = field(default_factory=ExitStack)
    """Nobody prunes what an engine may read again."""

    @property
    def settled(self) -> bool:
        """Whether the status tells already what is loaded."""
        return self.status.state is AdapterState.LOADED and self.status.revision == self.revision

    def end(self) -> None:
        if self.job is not None:
            self.job.cancel()
        self.marks.close()


class Adapters:
    """`tell` writes a line to the engine; `say` writes to the log."""

    def __init__(
        self,
        settings: RuntimeSettings,
        command: Sequence[str],
        tell: Callable[[bytes], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        replica: str | None = None,
    ) -> None:
        """`command` fetches one, with `--name`, `--uri`, `--revision`, `--secret-folder`; its output is JSON.
        `replica`: how the file calls this one; None = by the host's name, which is a pod's."""
        self._settings = settings
        self._command = tuple(command)
        self._tell = tell
        self._say = say
        self._clock = clock
        self._began = clock()
        self._held: dict[str, _Held] = {}
        self._replica = replica or socket.gethostname().partition(".")[0]
        self._elsewhere = frozenset[str]()
        """Names of those that another replica tries first."""
        self._text: str | None = None
        self._turn = 0
        self._answered = 0
        self._told: tuple[Fetched, ...] | None = None
        """What the engine at hand was told last; None = nothing yet."""
        self._listens = False
        self._fetching = asyncio.Semaphore(TOGETHER)
        self._guard = AdapterGuard(settings.adapters_guard)

    def statuses(self) -> list[AdapterStatus]:
        """In the order of the file."""
        return [held.status for held in self._held.values()]

    async def run(self) -> None:
        """Look at the file until cancelled."""
        try:
            while True:
                self._look()
                self._retry()
                self._send()
                await asyncio.sleep(POLL_SECONDS)
        finally:
            jobs = [one.job for one in self._held.values() if one.job is not None]
            for one in self._held.values():
                one.end()
            await asyncio.gather(*jobs, return_exceptions=True)

    def engine_started(self) -> None:
        """A new engine knows of none."""
        self._told, self._answered, self._listens = None, self._turn, True
        for one in self._held.values():
            one.loaded = False
            if one.fetched is not None:
                one.status = replace(one.status, state=self._next(one))
        self._send()

    def engine_ended(self, how: str = "") -> str:
        """Nobody listens until the next one starts. `how` it died, empty = it was to end; the name of the adapter that
        it was loading then, which no engine gets again as it is, or empty."""
        self._listens = False
        if not how:
            self._guard.acquit()
            return ""
        name = self._guard.blame(how)
        if (one := self._held.get(name)) is not None and one.fetched is not None:
            one.loaded = False
            if self._is_refused(one, one.fetched):
                one.fetched = None
        return name

    def reported(self, report: AdaptersReport) -> None:
        """The engine has carried out an order."""
        self._answered = max(self._answered, report.turn)
        if report.turn != self._turn:
            return
        told = {fetched.name: fetched for fetched in self._told or ()}
        for name, one in self._held.items():
            if one.fetched is None or told.get(name) != one.fetched:
                continue
            one.loaded = name in report.loaded
            self._guard.survived(name)
            if name in report.failed:
                failure, message = report.failed[name]
                one.fetched = (
                    one.fetched if one.loaded else None
                )  # the one before goes on, or another try is another order
                self._fail(one, failure, message)
            elif one.loaded and one.job is None and not one.settled:
                self._say(f"the adapter {name} is loaded")
                one.tries = 0
                one.status = replace(
                    one.status, state=AdapterState.LOADED, revision=one.revision, reason="", message=""
                )
        self._send()

    # What is wanted.

    def _look(self) -> None:
        """Read the file, where it has changed. One that can't be read changes nothing."""
        path = Path(self._settings.adapters_file)
        try:
            with path.open("rb") as file:
                text = file.read(LARGEST).decode()
            if text == self._text:
                return
            wanted = parse_adapters(text)
        except (OSError, UnicodeDecodeError, UserError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            if str(said) != self._text:
                self._say(f"{path}: {said} The adapters stay as they are.")
                self._text = str(said)
            return
        self._text = text
        self._elsewhere = frozenset(name for name, first in parse_tried(text).items() if first != self._replica)
        self._want(wanted)
        for one in self._held.values():  # the turn of some has come
            if one.fetched is not None and one.status.state is AdapterState.PENDING:
                one.status = replace(one.status, state=self._next(one))

    def _want(self, wanted: Sequence[Adapter]) -> None:
        """More than there is room for come with other replicas; until these are here those that are loaded stay."""
        self._guard.wanted({adapter.name for adapter in wanted})
        before, self._held = self._held, {}
        stay = {name for name, one in before.items() if one.fetched is not None}
        places = sorted((adapter.name for adapter in wanted), key=lambda name: name not in stay)
        placed = frozenset(places[: self._settings.adapter_count])
        for adapter in wanted:
            if adapter.name not in placed:
                self._held[adapter.name] = self._no_room(adapter)
                continue
            one = before.pop(adapter.name, None)
            if one is None or one.wanted != adapter or one.status.state is AdapterState.FAILED:
                one = self._begin(adapter, one)
            self._held[adapter.name] = one
        for one in before.values():
            one.end()

    def _no_room(self, adapter: Adapter) -> _Held:
        one, room = _Held(adapter, AdapterStatus(adapter.name, adapter.uri)), self._settings.adapter_count
        self._fail(one, FailureClass.DOES_NOT_FIT, f"The plan of this replica has room for {room} adapters.")
        return one

    def _begin(self, adapter: Adapter, one: _Held | None) -> _Held:
        status = AdapterStatus(adapter.name, adapter.uri)
        if one is not None and one.job is not None:
            one.job.cancel()
        if one is None:
            one = _Held(adapter, status)
        if one.loaded:  # the one before serves until the new one can
            status = replace(status, revision=one.status.revision, state=AdapterState.LOADED)
        one.wanted, one.status, one.tries, one.retry_at = adapter, status, 0, None
        self._fetch(one)
        return one

    # Fetching.

    def _fetch(self, one: _Held) -> None:
        one.retry_at = None
        one.job = asyncio.get_running_loop().create_task(self._bring(one, one.wanted))

    async def _bring(self, one: _Held, adapter: Adapter) -> None:
        async with self._fetching:
            if not one.loaded:
                one.status = replace(one.status, state=AdapterState.FETCHING)
            try:
                code, output = await _output([*self._command, *_arguments(adapter)])
            except OSError as error:  # no process, or no memory for one
                code, output = 1, f"no program could be started: {error.strerror or error}"
        one.job = None
        try:
            if code:
                record = FailureRecord.from_json(output)
                failure = BROKE if record.failure is FailureClass.CRASHED else record.failure
                self._fail(one, failure, f"{record.message} {record.remedy}")
            else:
                self._have(one, json.loads(output))
        except (ValueError, KeyError, TypeError) as error:
            said = output.strip()[-300:] or f"exit code {code}, {error!r}"
            self._fail(one, BROKE, f"Fetching it failed: {said}")
        self._send()

    def _have(self, one: _Held, body: dict[str, Any]) -> None:
        fetched, rank = Fetched(one.wanted.name, str(body["path"])), int(body["facts"]["rank"])
        room = self._settings.adapter_rank
        if rank > room:
            message = f"Its rank is {rank}, and the plan of this replica has room for ranks up to {room}."
            self._fail(one, FailureClass.DOES_NOT_FIT, message)
            return
        if self._is_refused(one, fetched):
            return
        one.marks.close()
        one.marks.enter_context(held(Path(fetched.path)))
        revision = str(body.get("revision") or "")
        same = (fetched, revision) == (one.fetched, one.status.revision)
        one.fetched, one.revision = fetched, revision
        if same or not one.loaded:  # else the one before serves, until the engine has said what became of this one
            one.status = replace(one.status, state=self._next(one), revision=one.revision, reason="", message="")

    def _next(self, one: _Held) -> AdapterState:
        """Of one whose files are here."""
        if one.loaded:
            return AdapterState.LOADED
        return AdapterState.PENDING if one.wanted.name in self._elsewhere else AdapterState.LOADING

    def _is_refused(self, one: _Held, fetched: Fetched) -> bool:
        """Whether an engine died of it. It is looked at again as what may pass: somebody may mend the files."""
        if refusal := self._guard.refusal(fetched):
            self._fail(one, FailureClass.CRASHED, refusal)
        return bool(refusal)

    def _fail(self, one: _Held, failure: FailureClass, message: str) -> None:
        """One that serves goes on serving as it was, and says what is wrong."""
        self._say(f"the adapter {one.wanted.name}: {failure.value}: {message}")
        state = AdapterState.LOADED if one.loaded else AdapterState.FAILED
        one.status = replace(one.status, state=state, reason=failure.value, message=message)
        if failure in PASSING:
            least, most = RETRY_SECONDS
            one.retry_at = self._clock() + min(most, least * 2.0 ** min(one.tries, 20))
            one.tries += 1

    def _retry(self) -> None:
        for one in self._held.values():
            if one.retry_at is not None and one.job is None and self._clock() >= one.retry_at:
                self._fetch(one)

    # Telling.

    def _send(self) -> None:
        """One order at a time: the pipe has room for it, and what has changed meanwhile goes with the next."""
        if not self._listens or self._answered < self._turn or self._text is None:
            return
        late = self._clock() - self._began >= FIRST_SECONDS
        coming = (one for name, one in self._held.items() if name not in self._elsewhere)
        if self._told is None and not late and any(one.job is not None for one in coming):
            return
        order = tuple(fetched for one in self._held.values() if (fetched := self._due(one)) is not None)
        if order == self._told:
            return
        self._turn += 1
        self._told = order
        self._tell(order_line(self._turn, order))

    def _due(self, one: _Held) -> Fetched | None:
        """What the engine is to have of it: while another replica tries it, what it has under this name."""
        if one.wanted.name not in self._elsewhere:
            return one.fetched
        return next((fetched for fetched in self._told or () if fetched.name == one.wanted.name), None)


def _arguments(adapter: Adapter) -> Iterable[str]:
    yield from (f"--name={adapter.name}", f"--uri={adapter.uri}")
    if adapter.revision:
        yield f"--revision={adapter.revision}"
    if adapter.secret:
        yield f"--secret-folder={adapter.secret}"


async def _output(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of a program, which ends with whoever waits for it."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode(errors="replace")
    except BaseException:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.communicate()
        raise
