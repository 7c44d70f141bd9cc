"""The adapters of one engine process: made to be what the supervisor orders, and told back."""

from __future__ import annotations

import logging
from pathlib import Path

from llmservice_runtime.contract.adapter_note import noted
from llmservice_runtime.contract.adapters import Fetched, Order
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.openai.loading import Adapting
from llmservice_runtime.openai.reports import Reporter
from llmservice_runtime.openai.state import Server

log = logging.getLogger(__name__)


class AdapterDesk:
    """Carries out orders, one after the other. A name is served from when it is loaded until it is taken away."""

    def __init__(self, engine: Adapting | None, server: Server, reporter: Reporter, guard: str = "") -> None:
        """`engine` None = it can't load any, and every order is refused name by name. `guard`: the folder that says
        what was being loaded when this process dies of it; empty = nowhere."""
        self._engine = engine
        self._server = server
        self._reporter = reporter
        self._guard = guard
        self._paths: dict[str, str] = {}

    async def obey(self, order: Order) -> None:
        """Load what is missing, unload what is too many, say what came of it. One that fails stops no other."""
        wanted = {adapter.name: adapter.path for adapter in order.adapters}
        failed: dict[str, UserError] = {}
        for name in [name for name in self._paths if name not in wanted]:
            await self._unload(name)
        for name, path in wanted.items():
            if self._paths.get(name) == path:
                continue
            try:
                await self._load(name, path)
            except UserError as error:
                failed[name] = error
            except Exception as error:
                log.exception("loading the adapter %s failed", name)
                failed[name] = UserError(f"Loading it failed: {error}", "The log says more.", _class_of(error))
        self._reporter.adapters(order.turn, self._paths, failed)

    async def _load(self, name: str, path: str) -> None:
        if name in (self._server.model_name, *self._server.aliases):
            raise UserError(f"The model itself is called {name}.", "Give the adapter another name.")
        if self._engine is None:
            reason = "What this engine serves here takes no adapters."
            raise UserError(reason, "Merge it into the model.", FailureClass.UNSUPPORTED_FORMAT)
        with noted(self._guard, Fetched(name, path)):
            await self._engine.load_adapter(name, Path(path))
        self._paths[name] = path
        self._server.adapters[name] = path
        log.info("the adapter %s is loaded", name)

    async def _unload(self, name: str) -> None:
        self._server.adapters.pop(name, None)
        del self._paths[name]
        assert self._engine is not None
        await self._engine.unload_adapter(name)
        log.info("the adapter %s is unloaded", name)


def _class_of(error: Exception) -> FailureClass:
    """Of what no loader expects. This process lives, so it is never CRASHED: of what an engine died of no other replica
    is told. All of these may pass, and are tried again."""
    if "OutOfMemory" in type(error).__name__:  # PyTorch's, of a GPU; and this layer knows nothing of PyTorch
        return FailureClass.OUT_OF_GPU_MEMORY
    return FailureClass.OUT_OF_MEMORY if isinstance(error, MemoryError) else FailureClass.MODEL_DAMAGED
