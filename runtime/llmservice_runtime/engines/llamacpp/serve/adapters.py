"""LoRA adapters of one context: llama.cpp applies one to a whole decode, and is told before each that wants another."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import llama_cpp

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.llamacpp.serve.binding import recent_errors
from llmservice_runtime.engines.llamacpp.serve.model import LoadedModel, meta
from llmservice_runtime.engines.llamacpp.serve.peft import Base, as_gguf

_GGUF = ".gguf"


class Adapters:
    """Those of a loaded model, by number. All but `file` in the step thread: a decode lays out its graphs by what is
    loaded."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._handles: dict[int, Any] = {}
        self._made = 0
        self._used = 0

    def file(self, path: Path) -> AbstractContextManager[Path]:
        """The GGUF of it: `path` itself, or made of what PEFT wrote into a folder. UserError when it can't be one."""
        return _as_file(path, self._base())

    def load(self, file: Path) -> int:
        """Load a GGUF. UserError when it is of another model, or none at all."""
        recent_errors.clear()
        handle = llama_cpp.llama_adapter_lora_init(self._loaded.model, os.fsencode(file))
        if not handle:
            said = recent_errors[-1] if recent_errors else "llama.cpp gave no reason"
            raise UserError(
                f"llama.cpp can't load the adapter: {said}.",
                "Use an adapter that was trained for this model; its card names the base.",
                FailureClass.UNSUPPORTED_FORMAT,
            )
        if llama_cpp.llama_adapter_get_alora_n_invocation_tokens(handle):
            llama_cpp.llama_adapter_lora_free(handle)
            raise UserError(
                "The adapter is an activated LoRA, which counts from a certain text of a prompt on only.",
                "Use a usual LoRA; no engine here switches adapters within a prompt.",
                FailureClass.UNSUPPORTED_FORMAT,
            )
        self._made += 1
        self._handles[self._made] = handle
        return self._made

    def free(self, adapter: int) -> None:
        """Give one back."""
        if self._used == adapter:
            self.use(0)
        llama_cpp.llama_adapter_lora_free(self._handles.pop(adapter))

    def use(self, adapter: int) -> None:
        """What the next decode computes with; 0 = the model itself."""
        if adapter == self._used:
            return
        if adapter:
            handles = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(self._handles[adapter])
            llama_cpp.llama_set_adapters_lora(self._loaded.context, handles, 1, (ctypes.c_float * 1)(1.0))
        else:
            llama_cpp.llama_set_adapters_lora(self._loaded.context, None, 0, None)
        self._used = adapter

    def _base(self) -> Base:
        architecture = meta(self._loaded.model, "general.architecture")
        heads = meta(self._loaded.model, f"{architecture}.attention.head_count")
        kv_heads = meta(self._loaded.model, f"{architecture}.attention.head_count_kv") or heads
        return Base(architecture, *(int(text) if text.isdigit() else 0 for text in (heads, kv_heads)))


@contextmanager
def _as_file(path: Path, base: Base) -> Iterator[Path]:
    """A path where llama.cpp finds a GGUF: PEFT's files are written anew into memory, as nobody reads them twice."""
    if path.suffix == _GGUF:
        yield path
        return
    memory = os.memfd_create("adapter", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(memory), "wb") as file:
            for piece in as_gguf(path, base):
                file.write(piece)
        yield Path(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
