"""One replica on this machine: its supervisor is kept running, its state is followed, and it is drained at the end."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from llmservice_api.adapters_told import adapters_told
from llmservice_api.adapters_tried import NOTHING, Tried
from llmservice_api.loads import load_status
from llmservice_cli.local.disk import FULL, problem, unwritable
from llmservice_cli.local.line import ROOM_SECONDS, Line
from llmservice_cli.local.load_times import LoadTimes
from llmservice_cli.local.loading import LoadQueue, LoadTurn
from llmservice_cli.local.process import SupervisorProcess, rotate
from llmservice_cli.local.room import Claim
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_cli.ollama.links import mend
from llmservice_runtime.contract.adapters import Adapter, adapters_json
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor.state import HOPELESS, Policy, backoff

log = logging.getLogger(__name__)

FASTEST_POLL, STARTING_POLL, READY_POLL = 0.05, 0.5, 1.0
"""Seconds between looks at a supervisor: at first, while it loads, once it is ready."""
SILENT_SECONDS = 20.0
"""A supervisor that answers nothing for so long is replaced."""
STATE_FILE = "state.json"
ADAPTERS_FILE = "adapters.json"
ADAPTERS_GUARD = "adapters"
STOP_MARGIN_SECONDS = 15.0
"""Beyond its drain time, then the supervisor is killed."""


class LocalReplica:
    """Starts at once. `on_change` is called after every change of `facts`; `done` ends when nothing runs any more."""

    def __init__(
        self,
        facts: ReplicaFacts,
        settings: RuntimeSettings,
        folder: Path,
        log: Path,
        session: aiohttp.ClientSession,
        on_change: Callable[[], None],
        line: Line,
        loading: LoadQueue,
        times: LoadTimes,
        adapters: Sequence[Adapter] = (),
        tried: Tried = NOTHING,
    ) -> None:
        self.facts = facts
        self._times = times
        self._adapters, self._tried = tuple(adapters), tried
        self._settings = replace(
            settings,
            host="127.0.0.1",
            port=0,
            supervisor_port=0,
            failure_log=str(folder / "failure.json"),
            adapters_file=str(folder / ADAPTERS_FILE) if settings.adapter_count else "",
            adapters_guard=str(folder / ADAPTERS_GUARD) if settings.adapter_count else "",
        )
        self._folder = folder
        self._log = log
        self._session = session
        self._on_change = on_change
        self._line = line
        self._loading = loading
        self._claimed: Claim | None = None
        self._turn: LoadTurn | None = None
        self._process: SupervisorProcess | None = None
        self._stopping = asyncio.Event()
        self._silent_since: float | None = None
        self.done = asyncio.create_task(self._run(), name=f"replica {facts.name}")

    async def stop(self, *, force: bool) -> None:
        """Drain and end it (`force`: end it now). Asked again it goes on draining."""
        asked = self._stopping.is_set()
        self._change(draining=True, ready=False, phase=Phase.DRAINING.value)
        self._stopping.set()
        if self._process is not None:
            if not asked:  # a supervisor takes a second signal for impatience
                self._process.send(signal.SIGTERM)
            if force:
                self._process.send(signal.SIGKILL)
        done, _ = await asyncio.wait({self.done}, timeout=self._settings.drain_seconds + STOP_MARGIN_SECONDS)
        if not done and self._process is not None:
            self._process.send(signal.SIGKILL)
            await self.done

    def adapt(self, adapters: Sequence[Adapter], tried: Tried) -> None:
        """Load these, and no others, but for those that others try first; the supervisor looks at the file every
        second."""
        self._adapters, self._tried = tuple(adapters), tried
        if self._process is not None:
            try:
                self._tell_adapters()
            except OSError as error:  # a full disk: it keeps what it has, and is told with its next start
                log.warning("%s: its adapters could not be written: %s", self.facts.name, error)

    def _tell_adapters(self) -> None:
        if self._settings.adapters_file:
            file = Path(self._settings.adapters_file)
            new = file.with_suffix(".new")
            elsewhere = {name: first for name, first in self._tried.items() if first != self.facts.name}
            new.write_text(adapters_json(self._adapters, elsewhere))
            new.replace(file)

    async def _run(self) -> None:
        """Supervisor after supervisor, until it is stopped or a start is hopeless."""
        failures = 0
        try:
            await self._wait_for_room()
            while not self._stopping.is_set() and await self._wait_for_turn():
                started = asyncio.get_running_loop().time()
                try:
                    arguments = self._written()
                    self._process = SupervisorProcess(arguments, self._log)
                except OSError as error:
                    code, record = -1, _not_started(self._folder, error)
                else:
                    try:
                        code = await self._one_life(self._process)
                        record = (code > 0 and self._read_record()) or self._supervisor_died(code)
                    except Exception as error:  # a bug of ours costs one life of one replica
                        log.exception("following %s", self.facts.name)
                        code, record = -1, _lost_sight(error)
                self._end_turn()
                if self._stopping.is_set():
                    return
                hopeless = code > 0 and record.failure in HOPELESS
                self._change(
                    ready=False,
                    url="",
                    pid=0,
                    phase=Phase.FAILED.value,
                    percent=None,
                    eta=None,
                    failure=record,
                    gave_up=hopeless,
                )
                if hopeless:
                    return
                lived = asyncio.get_running_loop().time() - started
                failures = 1 if lived > Policy().stable_seconds else failures + 1
                self._change(restarts=self.facts.restarts + 1)
                await self._pause(backoff(failures, random.random(), Policy()))
        finally:
            self._end_turn()
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._claimed is not None:
                self._claimed.release()

    async def _wait_for_room(self) -> None:
        """Until this replica fits beside what runs; who has the memory is told meanwhile."""
        while not self._stopping.is_set():
            claimed = await self._line.ask(self.facts.name)
            if isinstance(claimed, Claim):
                self._claimed = claimed
                gpus = tuple(gpu.name for gpu in claimed.gpus)
                self._change(gpus=gpus, crowded=claimed.crowded, held=False, failure=None)
                return
            self._change(held=True, failure=claimed)
            await self._pause(ROOM_SECONDS)

    async def _wait_for_turn(self) -> bool:
        """Until it may load beside others that do; False when it is to stop before."""
        self._turn = turn = self._loading.join(self._settings.model_name)
        if not turn.came.is_set():
            self._change(queued=self._loading.said)
            waits = [asyncio.create_task(event.wait()) for event in (turn.came, self._stopping)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            self._change(queued="")
        return not self._stopping.is_set()

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._turn.end()

    def _written(self) -> list[str]:
        """A supervisor's arguments, and what they name. OSError on a disk that can't be written."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._mend_links()
        settings, state = self._folder / "settings.json", self._folder / STATE_FILE
        state.unlink(missing_ok=True)
        environ = self._settings.engine_env
        if self._claimed is not None:
            environ = {**environ, **self._claimed.environment(environ)}
        settings.write_text(replace(self._settings, engine_env=environ).to_json())
        self._tell_adapters()
        return ["--settings", str(settings), "--restart", "--state-file", str(state)]

    def _mend_links(self) -> None:
        try:
            if mend(Path(self._settings.model_path)):
                log.warning("%s: Ollama has pulled another version; the plan is of the one before", self.facts.name)
        except (UserError, OSError) as error:  # the engine says what it misses
            log.warning("%s: links of Ollama's model could not be mended: %s", self.facts.name, error)

    async def _one_life(self, process: SupervisorProcess) -> int:
        """Follow a supervisor to its end; its exit code. Whatever goes wrong here, it does not run on unfollowed.

        A supervisor that a signal ends writes no record; one that lies there is an earlier failure of the engine.
        """
        try:
            self._silent_since = None
            self._change(pid=process.pid, draining=self._stopping.is_set())
            delay = FASTEST_POLL
            while not process.exited.done():
                await self._look(self._folder / STATE_FILE)
                rotate(self._log)
                limit = READY_POLL if self.facts.ready else STARTING_POLL
                delay = min(limit, delay * 1.5)
                await asyncio.wait({process.exited}, timeout=delay)
            return process.exited.result()
        finally:
            process.send(signal.SIGKILL)

    async def _look(self, state: Path) -> None:
        """Ask the supervisor's /status and take over what it says."""
        assert self._process is not None
        try:
            url = f"http://127.0.0.1:{_supervisor_port(state)}/status"
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
                status: dict[str, Any] = await answer.json()
        except FileNotFoundError:
            return  # it has not begun to listen; its exit is noticed in any case
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            now = asyncio.get_running_loop().time()
            self._silent_since = self._silent_since or now
            if now - self._silent_since > SILENT_SECONDS:
                self._process.send(signal.SIGKILL)
            return
        self._silent_since = None
        if self._claimed is not None:
            self._claimed.runs_in(status["engine_pid"] or 0)
        draining = self.facts.draining or bool(status["draining"])
        failure = status.get("last_failure")
        load = load_status(status["load"]) if status.get("load") else None
        if load is not None and load != self.facts.load:
            self._times.keep(self._settings, load.milliseconds / 1000)
        self._change(
            url=f"http://127.0.0.1:{status['port']}" if status["port"] else "",
            ready=bool(status["ready"]) and not draining,
            draining=draining,
            phase=status["phase"],
            percent=status.get("percent"),
            eta=self._eta(status),
            running=status["running"],
            waiting=status["waiting"],
            restarts=max(self.facts.restarts, status["restarts"]),
            load=load or self.facts.load,
            adapters=adapters_told(status),
            failure=FailureRecord.from_json(json.dumps(failure)) if failure else self.facts.failure,
        )

        if self._turn is not None and (self.facts.ready or self.facts.restarts):
            self._turn.loaded()

    def _eta(self, status: dict[str, Any]) -> int | None:
        """By what the same took last time here; else what the supervisor makes of its progress. None once it takes
        longer than either."""
        if status["ready"] or status["phase"] in (Phase.DRAINING, Phase.FAILED):
            return None
        took = self._times.of(self._settings)
        left = status.get("eta_seconds") if took is None else took - (status.get("elapsed_seconds") or 0.0)
        return math.ceil(left) if left is not None and left > 0 else None

    def _read_record(self) -> FailureRecord | None:
        try:
            return FailureRecord.from_json((self._folder / "failure.json").read_text())
        except (OSError, ValueError):
            return None  # none was written: the supervisor itself died

    def _supervisor_died(self, code: int) -> FailureRecord:
        """It left no record: on a full disk it could not."""
        if full := problem(self._folder):
            return FailureRecord(full.failure, full.reason, full.remedy, self.facts.phase, code)
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return FailureRecord(
            FailureClass.CRASHED,
            f"The supervisor ended {how}.",
            f"It is started again; its log says more: {self._log}.",
            self.facts.phase,
            code,
        )

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _change(self, **changes: Any) -> None:
        facts = replace(self.facts, **changes)
        if facts != self.facts:
            self.facts = facts
            self._on_change()


def _supervisor_port(state: Path) -> int:
    return int(json.loads(state.read_text())["supervisor_port"])


def _lost_sight(error: Exception) -> FailureRecord:
    message = f"Following the supervisor met an error that nobody foresaw: {type(error).__name__}: {error}."
    remedy = "It is started again. Report it with the lines above it in the instance's output."
    return FailureRecord(FailureClass.CRASHED, message, remedy, Phase.STARTING.value)


def _not_started(folder: Path, error: OSError) -> FailureRecord:
    disk = unwritable(folder, error) if error.errno in FULL else problem(folder)
    if disk is not None:
        return FailureRecord(disk.failure, disk.reason, disk.remedy, Phase.STARTING.value)
    where = f" ({error.filename})" if error.filename else ""
    message = f"The supervisor can't be started: {error.strerror or error}{where}."
    remedy = "It is tried again; mend what the message names."
    return FailureRecord(FailureClass.CRASHED, message, remedy, Phase.STARTING.value)
