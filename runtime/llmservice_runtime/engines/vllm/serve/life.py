"""From listening to the end: `ready`, a line a second while requests run, and the drain when it is told."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import Any

from llmservice_runtime.contract.adapters import Order, parse_order
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.vllm.plugins import API
from llmservice_runtime.engines.vllm.serve.adapters import VllmAdapters
from llmservice_runtime.engines.vllm.serve.connection import Connection
from llmservice_runtime.engines.vllm.serve.gate import Door
from llmservice_runtime.engines.vllm.serve.link import LINK
from llmservice_runtime.engines.vllm.serve.pace import PACE
from llmservice_runtime.engines.vllm.serve.processes import end_as
from llmservice_runtime.openai.adapters import AdapterDesk
from llmservice_runtime.openai.reports import control_lines, report_work

LISTENING_CHECK_SECONDS = 0.01
CORE_CHECK_SECONDS = 0.5
LEAVE_SECONDS = 2.0
"""vLLM gets so long to end in order once it has drained; the supervisor ends what is left of it."""

log = logging.getLogger(__name__)


class Life:
    """Runs beside the server until the process ends."""

    def __init__(
        self, door: Door, state: Any, engine_client: Any, measured: dict[str, Any], settings: RuntimeSettings
    ) -> None:
        """`measured`: of the load, for the report that it is done; its speed where that is known."""
        self._settings = settings
        self._measured = measured
        self._door = door
        self._state = state
        self._engine = engine_client
        self._drains: asyncio.Queue[float] = asyncio.Queue()
        self._orders: asyncio.Queue[Order] = asyncio.Queue()

    async def run(self) -> None:
        """All of it."""
        with LINK.or_end(API):
            port = await self._listening()
            self._state.server.config.http_protocol_class = Connection  # of all that connect from now on
            detail = {
                "context_tokens": int(self._engine.model_config.max_model_len),
                "max_sequences": int(self._engine.vllm_config.scheduler_config.max_num_seqs),
            }
            PACE.measured(
                self._measured.get("tokens_per_second", 0.0),
                int(self._engine.vllm_config.scheduler_config.max_num_batched_tokens),
                self._measured.get("prompt_tokens_per_second", 0.0),
            )
            self._listen()
            desk = self._desk()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_core())
                if desk is not None:  # what is to be loaded when a replica starts is loaded before it is ready
                    LINK.reporter.phase(Phase.LOADING, detail="adapters")
                    await desk.obey(await self._orders.get())
                LINK.reporter.ready(port, LINK.seconds, {**detail, **self._measured}, told=True)
                tasks.create_task(self._drain_when_told())
                if desk is not None:
                    tasks.create_task(self._obey(desk))
                running = self._door.running
                tasks.create_task(report_work(running.busy, running.idle, self._report))

    async def _listening(self) -> int:
        """The port, once the server accepts. vLLM makes the server after this plug-in's turn."""
        while not getattr(getattr(self._state, "server", None), "started", False):  # noqa: ASYNC110
            await asyncio.sleep(LISTENING_CHECK_SECONDS)
        return int(self._state.server.servers[0].sockets[0].getsockname()[1])

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()

        def listen() -> None:
            for line in control_lines():
                if (order := parse_order(line)) is not None:
                    loop.call_soon_threadsafe(self._orders.put_nowait, order)
                elif isinstance(line, dict) and isinstance(line.get("drain"), int | float):
                    loop.call_soon_threadsafe(self._drains.put_nowait, float(line["drain"]))

        threading.Thread(target=listen, name="control", daemon=True).start()

    def _desk(self) -> AdapterDesk | None:
        """None where there will never be adapters."""
        served = self._door.served
        if not self._settings.adapters_file or served is None:
            return None
        adapters = VllmAdapters(self._engine, self._state.openai_serving_models, served.adapters)
        return AdapterDesk(adapters, served.server, LINK.reporter, self._settings.adapters_guard)

    async def _obey(self, desk: AdapterDesk) -> None:
        """Adapters that come and go while it serves."""
        while True:
            await desk.obey(await self._orders.get())

    async def _drain_when_told(self) -> None:
        seconds = await self._drains.get()
        await self._door.running.drain(seconds)
        threading.Thread(target=_leave, name="leave", daemon=True).start()
        LINK.reporter.drained()

    async def _watch_core(self) -> None:
        """vLLM ends without an error some seconds after its engine core is gone."""
        while not self._engine.errored:  # noqa: ASYNC110
            await asyncio.sleep(CORE_CHECK_SECONDS)
        log.error("vLLM's engine core is gone; what it said stands above")
        if not self._door.running.draining:
            await asyncio.sleep(CORE_CHECK_SECONDS)  # those who wait are told first
            end_as(_codes(self._engine))

    async def _report(self) -> None:
        """Of answers that vLLM has to compute: a client may take its time with its body, or with reading.

        Those in its batch are counted when a step is done; what it has not seen yet waits.
        """
        answers = int(self._engine.output_processor.get_num_unfinished_requests())
        decoding = min(PACE.running, answers)
        seconds = PACE.expected(self._door.running.longest_prompt)
        LINK.reporter.step(decoding, answers - decoding, PACE.steps, seconds, PACE.kv_used)


def _codes(engine_client: Any) -> list[int]:
    """Exit codes of engine cores that ended; none where vLLM keeps them elsewhere."""
    manager = engine_client.engine_core.resources.engine_manager
    return list(manager.finished_procs().values()) if hasattr(manager, "finished_procs") else []


def _leave() -> None:
    """Nothing runs any more; vLLM's own end takes more than 10 s where a worker does not hear it."""
    time.sleep(LEAVE_SECONDS)
    os._exit(0)
