"""Wires the supervisor: events from pipes, signals, timers and canaries go into `state.step`, actions come out."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.in_use import held
from llmservice_runtime.contract.listening import in_url
from llmservice_runtime.contract.outlet import Outlet, OutletHandler
from llmservice_runtime.contract.report import CONTROL_FD_ENV, LIFELINE_FD_ENV
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor import kernel
from llmservice_runtime.supervisor.adapter_guard import died_of
from llmservice_runtime.supervisor.adapters import Adapters
from llmservice_runtime.supervisor.classify import LastWords, Remains, classify, reinstall
from llmservice_runtime.supervisor.events import (
    Action,
    Begin,
    CanaryAnswered,
    Do,
    Event,
    Exit,
    Exited,
    Record,
    Reported,
    StopRequested,
    Tick,
)
from llmservice_runtime.supervisor.listen import listen
from llmservice_runtime.supervisor.pipes import watch_lifeline
from llmservice_runtime.supervisor.process import Ending, EngineProcess
from llmservice_runtime.supervisor.record import write_failure, write_state
from llmservice_runtime.supervisor.reports import AdaptersReport, ReadyReport, parse_report
from llmservice_runtime.supervisor.state import Policy, State, next_wakeup, step
from llmservice_runtime.supervisor.verify import Loaded, loaded, resident

OURS_ALONE = frozenset({LIFELINE_FD_ENV, CONTROL_FD_ENV})
"""Descriptors that a parent gave this process, and that its engine has of its own."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """`command` starts the engine; `state_file` is where ports and pids are published (empty = nowhere).

    `last_words` gives what this engine says before it fails, beside what any does; asked when it has failed.
    """

    settings: RuntimeSettings
    command: tuple[str, ...]
    policy: Policy
    state_file: str = ""
    last_words: Callable[[], LastWords] = tuple
    fetch_adapter: tuple[str, ...] = ()
    """The command that fetches an adapter."""


def policy_of(settings: RuntimeSettings, restart: bool) -> Policy:
    """The bounds that the settings ask for; a canary at least three times per progress bound."""
    return Policy(
        restart=restart,
        load_seconds=settings.load_seconds,
        progress_seconds=settings.progress_seconds,
        drain_seconds=settings.drain_seconds,
        canary_seconds=min(10.0, settings.progress_seconds / 3),
    )


def serve(options: ServeOptions) -> int:
    """Run one replica until it is told to stop or failed for good; the exit code of the program.

    UserError when the supervisor's own port is taken.
    """
    supervisor = Supervisor(options)
    logging.basicConfig(format="supervisor: %(message)s", handlers=[OutletHandler(supervisor.stderr)])
    try:
        return asyncio.run(supervisor.run())
    finally:
        supervisor.stdout.flush()
        supervisor.stderr.flush()


class Supervisor:
    """The thin shell around `state.step`; all on one event loop, no threads but those that write the log."""

    def __init__(self, options: ServeOptions) -> None:
        self._settings = options.settings
        self._command = options.command
        self._policy = options.policy
        self._state_file = options.state_file
        self._last_words = options.last_words
        self.stdout, self.stderr = Outlet(1), Outlet(2)
        """Ours, which the engine's output goes to as well; whoever reads them may stall."""
        self._state = State()
        self._engine: EngineProcess | None = None
        self._supervisor_port = 0
        self._published = False
        self._cgroup = kernel.own_cgroup()
        self._kills = kernel.Kills(0, 0.0)
        self._timer: asyncio.TimerHandle | None = None
        self._canary: asyncio.Task[None] | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._loaded: Loaded | None = None
        self._fetch_adapter = options.fetch_adapter
        self._adapters: Adapters | None = None

    async def run(self) -> int:
        """Start, serve probes, end."""
        self._done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._watch_signals()
        with (
            listen(self._settings.host, self._settings.supervisor_port) as listener,
            held(Path(self._settings.model_path)),  # nobody prunes it
        ):
            self._supervisor_port = int(listener.getsockname()[1])
            watching = self._watch_adapters()
            try:
                self._handle(Begin())
                return await self._answer_probes(listener)
            finally:
                if watching is not None:
                    watching.cancel()
                if self._engine is not None:
                    self._engine.kill()
                if self._timer is not None:
                    self._timer.cancel()
                for task in (self._canary, self._measuring):
                    if task is not None:
                        task.cancel()

    async def _answer_probes(self, listener: socket.socket) -> int:
        # Imported while the engine starts already; a probe that comes before has its answer when this is done.
        from llmservice_runtime.supervisor.probes import View, answering

        view = View(
            self._settings,
            lambda: self._state,
            lambda: self._engine.pid if self._engine else None,
            os.getpid(),
            lambda: self._loaded,
            lambda: self._adapters.statuses() if self._adapters else (),
        )
        async with answering(view, listener):
            return await self._done

    def _watch_adapters(self) -> asyncio.Task[None] | None:
        if not self._settings.adapters_file:
            return None

        def tell(line: bytes) -> None:
            if self._engine is not None:
                self._engine.tell(line)

        self._adapters = Adapters(self._settings, self._fetch_adapter, tell, self._log)
        return asyncio.get_running_loop().create_task(self._adapters.run())

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._handle, StopRequested())
        if fd := os.environ.get(LIFELINE_FD_ENV):
            watch_lifeline(int(fd), self._parent_died)

    def _parent_died(self) -> None:
        """Whoever started us is gone: nobody routes to this replica any more."""
        self._handle(StopRequested())
        self._handle(StopRequested())

    def _handle(self, event: Event) -> None:
        self._look_at_kills()
        before = self._state
        self._state, actions = step(before, event, time.monotonic(), self._policy)
        for action in actions:
            self._act(action)
        shown = (self._state.phase, self._state.port, self._state.ready, self._state.alive)
        if shown != (before.phase, before.port, before.ready, before.alive):
            self._publish(said=self._state.phase is before.phase)
        self._wake()

    def _act(self, action: Action) -> None:
        match action:
            case Record(record):
                self._log(f"{record.failure.value}: {record.message} {record.remedy}")
                self._write_failure(record)
            case Exit(code):
                if not self._done.done():
                    self._done.set_result(code)
            case Do.START:
                self._start()
            case Do.TERMINATE if self._engine is not None:
                self._engine.terminate()
            case Do.DRAIN if self._engine is not None:
                self._engine.drain(self._policy.drain_seconds)
            case Do.KILL if self._engine is not None:
                self._engine.kill()
            case Do.CANARY:
                self._canary = asyncio.get_running_loop().create_task(self._ask())
            case Do.CLEAR_RECORD:
                self._write_failure(None)

    def _start(self) -> None:
        self._kills = kernel.Kills(kernel.oom_kills(self._cgroup), time.monotonic())
        env = {key: value for key, value in os.environ.items() if key not in OURS_ALONE}
        env |= {"PYTHONUNBUFFERED": "1", **self._settings.engine_env}
        try:
            self._engine = EngineProcess(
                self._command, env, self._report, self._exited, (self.stdout.write, self.stderr.write)
            )
            if self._adapters is not None:
                self._adapters.engine_started()
        except OSError as error:
            record = FailureRecord(
                FailureClass.ENGINE_NOT_INSTALLED,
                f"The engine can't be started: {self._command[0]}: {error.strerror}.",
                f"Install it again: {reinstall(self._settings.engine.folder)}.",
                self._state.phase.value,
            )
            asyncio.get_running_loop().call_soon(self._handle, Exited(record))

    def _report(self, line: bytes) -> None:
        report = parse_report(line)
        if report is None:
            self._log(f"the engine sent a report that is not understood: {line[:200]!r}")
            return
        self._handle(Reported(report))
        if isinstance(report, AdaptersReport) and self._adapters is not None:
            self._adapters.reported(report)
        if isinstance(report, ReadyReport) and self._engine is not None and self._state.ready:
            self._measuring = asyncio.get_running_loop().create_task(self._measure(report, self._engine.pid))

    async def _measure(self, report: ReadyReport, session: int) -> None:
        """Hold the load against the plan, once; off the loop, as large mappings take the kernel a while to sum up."""
        state = self._state

        def look() -> Loaded:
            took = state.last_load_seconds or 0.0
            return loaded(self._settings, state.load_phases, took, resident(session), report.detail)

        self._loaded = await asyncio.to_thread(look)
        for sentence in self._loaded.findings:
            self._log(sentence)

    def _look_at_kills(self) -> None:
        self._kills.seen(kernel.oom_kills(self._cgroup), time.monotonic())

    def _exited(self, ending: Ending) -> None:
        self._look_at_kills()
        session, self._engine = self._engine.pid if self._engine else 0, None
        if self._canary is not None:
            self._canary.cancel()
        remains = Remains(
            code=ending.code,
            phase=self._state.phase,
            tail=ending.tail,
            reported=self._state.reported,
            killed_for=self._state.killed_for,
            kernel_oom_kills=self._kills.recent,
            others_counted=kernel.has_others(self._cgroup, session),
            memory_limit=kernel.memory_limit(self._cgroup),
            peak_memory=ending.peak_memory,
            port=self._settings.port,
            model_path=self._settings.model_path,
            engine=self._settings.engine.folder,
            last_words=self._words(),
        )
        record = classify(remains)
        if self._adapters is not None:
            adapter = self._adapters.engine_ended(self._how_it_died(record))
            record = died_of(adapter, record) if adapter else record
        self._handle(Exited(record, random.random()))

    def _how_it_died(self, record: FailureRecord) -> str:
        """Empty = it was to end; who ends one that stood still, as a kubelet does, only carries that out."""
        if self._state.wedged and self._state.last_failure is not None:
            return self._state.last_failure.message
        return "" if self._state.stopping else record.message

    def _words(self) -> LastWords:
        """They are read from the engine's folder now, which somebody may have replaced since this process began."""
        try:
            return self._last_words()
        except Exception as error:
            self._log(f"can't read what this engine says before it fails: {error!r}")
            return ()

    async def _ask(self) -> None:
        """No answer of the canary is no event; time does the rest."""
        from llmservice_runtime.supervisor.canary import answers

        if await answers(self._settings.host, self._state.port, self._policy.canary_seconds):
            self._handle(CanaryAnswered())

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = next_wakeup(self._state, self._policy)
        if when is not None and not self._done.done():
            delay = max(0.01, when - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._handle, Tick())

    def _publish(self, said: bool) -> None:
        state = self._state
        body = {
            "pid": os.getpid(),
            "engine_pid": self._engine.pid if self._engine else None,
            "supervisor_port": self._supervisor_port,
            "port": state.port or None,
            "host": self._settings.host,
            "phase": state.phase.value,
            "ready": state.ready,
            "model": self._settings.model_name,
        }
        if not said:
            self._log(state.phase.value + (f" on {in_url(self._settings.host)}:{state.port}" if state.ready else ""))
        try:
            write_state(self._state_file, body)
        except OSError as error:
            self._log(f"can't write {self._state_file}: {error}")
            if not self._published and not self._done.done():  # nobody would ever find this replica
                self._done.set_result(1)
        else:
            self._published = True

    def _write_failure(self, record: FailureRecord | None) -> None:
        try:
            write_failure(self._settings.failure_log, record)
        except OSError as error:
            self._log(f"can't write {self._settings.failure_log}: {error}")

    def _log(self, text: str) -> None:
        self.stderr.write(f"supervisor: {text}\n".encode(errors="replace"))


def options_for(
    settings: RuntimeSettings,
    command: Sequence[str],
    *,
    last_words: Callable[[], LastWords] = tuple,
    fetch_adapter: Sequence[str] = (),
    restart: bool = False,
    state_file: str = "",
) -> ServeOptions:
    """Settings and command line become one value."""
    policy = policy_of(settings, restart)
    return ServeOptions(settings, tuple(command), policy, state_file, last_words, tuple(fetch_adapter))
