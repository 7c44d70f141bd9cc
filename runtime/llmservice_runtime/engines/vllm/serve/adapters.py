"""LoRA adapters of vLLM, loaded in its process: no route does, of those that clients reach."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass

_FIRST = re.compile(r"(?:\w+Error|Exception): ")


class VllmAdapters:
    """What `openai.loading.Adapting` asks for. `names`: what vLLM calls each adapter that requests may name."""

    def __init__(self, engine_client: Any, models: Any, names: dict[str, str]) -> None:
        """`models`: vLLM's OpenAIServingModels, where its routes look names up."""
        self._engine = engine_client
        self._models = models
        self._names = names
        self._made: dict[tuple[str, str], Any] = {}

    async def load_adapter(self, name: str, path: Path) -> None:
        """See Adapting."""
        if self._engine.vllm_config.lora_config is None:
            raise UserError(
                "The plan of this replica has no room for adapters.",
                "It is planned anew with some as soon as spec.adapters names one.",
                FailureClass.DOES_NOT_FIT,
            )
        request = self._request(name, str(path))
        try:
            await self._engine.add_lora(request)
        except Exception as error:  # whatever the core wraps it in
            if self._engine.errored:
                await asyncio.Event().wait()  # the core died of it, and so will this process: `Life` looks for that
            raise UserError(
                f"vLLM can't load the adapter: {_said(error)}",
                "Use an adapter that was trained for this model; its card names the base.",
                FailureClass.UNSUPPORTED_FORMAT,
            ) from error
        self._forget(name)
        self._models.lora_requests[request.lora_name] = request
        self._names[name] = request.lora_name

    async def unload_adapter(self, name: str) -> None:
        """See Adapting. What it took is given to the next that is loaded."""
        self._forget(name)

    def _forget(self, name: str) -> None:
        if (known := self._names.pop(name, None)) is not None:
            self._models.lora_requests.pop(known, None)

    def _request(self, name: str, path: str) -> Any:
        """vLLM tells adapters apart by name, also those that answers still run with: other files are another name."""
        from vllm.lora.request import LoRARequest

        if (found := self._made.get((name, path))) is None:
            others = sum(1 for known, _ in self._made if known == name)
            shown = f"{name}@{others + 1}" if others else name
            number = self._models.lora_id_counter.inc(1)
            found = self._made[name, path] = LoRARequest(lora_name=shown, lora_int_id=number, lora_path=path)
        return found


def _said(error: Exception) -> str:
    """The first line, without the names of exceptions that it went through."""
    line = next(iter(str(error).splitlines()), "") or repr(error)
    return _FIRST.sub("", line)[:500]
