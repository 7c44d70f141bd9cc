"""A process that hosts a scripted engine: `scripted_host.py SETTINGS MODE`."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest import ScriptedEngine  # type: ignore[attr-defined]

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.memory import HeldLine
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.launch import run
from llmservice_runtime.openai.metrics import EngineMetrics, EngineStats
from llmservice_runtime.protocol.engine import Delta, FinishReason, GenerationRequest


@dataclass
class HostedScript(ScriptedEngine):  # type: ignore[misc]
    """Says "one", then waits for ever; the self-test gets its token and ends."""

    def stats(self) -> EngineStats:
        return EngineStats(running=self.running)

    def memory(self) -> list[HeldLine]:
        return []

    def other_gpus(self) -> list[str]:
        return []

    def close(self) -> None:
        sys.stderr.write("closed\n")


def load(mode: str) -> Callable[[RuntimeSettings, EngineMetrics, Callable[[float], None]], HostedScript]:
    """A loader that succeeds, fails, or never ends."""

    def loader(settings: RuntimeSettings, metrics: EngineMetrics, progress: Callable[[float], None]) -> HostedScript:
        progress(0.5)
        if mode == "memory":
            raise UserError("The model needs 9 GiB and 4 are free.", "Take a smaller one.", FailureClass.OUT_OF_MEMORY)
        if mode == "slow":
            threading.Event().wait()
        if mode == "mute":
            return HostedScript(pieces=(), finish=FinishReason.STOP)
        return _Endless(pieces=("one",))

    return loader


class _Endless(HostedScript):
    async def _generate(self, request: GenerationRequest) -> AsyncIterator[Delta]:
        async for delta in super()._generate(request):
            if delta.finish_reason and request.request_id != "self-test":
                await asyncio.Event().wait()
            yield delta


if __name__ == "__main__":
    sys.exit(run(RuntimeSettings.from_json(Path(sys.argv[1]).read_text()), load(sys.argv[2])))
