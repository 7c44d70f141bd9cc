"""llama.cpp's C functions as this engine calls them: a loaded library, its log, and one batch in NumPy arrays."""

from __future__ import annotations

import ctypes
import logging
import os
from collections import deque
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from llmservice_runtime.engines.llamacpp.serve.held import Buffer, buffer, gpu
from llmservice_runtime.generation.arrays import Floats, Ints

log = logging.getLogger(__name__)

LEVELS = {2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
"""ggml_log_level to ours. Its INFO is our DEBUG: some hundred lines at every load."""

recent_errors: deque[str] = deque(maxlen=20)
"""The last warnings and errors of llama.cpp: a failed load says its reason only here."""

buffers: list[Buffer] = []
gpus: list[str] = []
"""What it said of its buffers and of GPUs since the lists were emptied."""


def _on_log(level: int, text: bytes | None, _data: Any) -> None:
    line = (text or b"").decode("utf-8", "replace").strip()
    ours = LEVELS.get(level, logging.DEBUG)
    if "cannot use buft" in line:  # of every tensor of an adapter: it lies where others can read it
        ours = logging.DEBUG
    if line and ours >= logging.WARNING:
        recent_errors.append(line)
    elif (found := buffer(line)) is not None:
        buffers.append(found)
    elif name := gpu(line):
        gpus.append(name)
    if len(line) > 1:
        log.log(ours, "%s", line)


log_callback = llama_cpp.llama_log_callback(_on_log)
_get_logits = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("llama_get_logits", llama_cpp.llama_cpp._lib))
get_embeddings_seq = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(
    ("llama_get_embeddings_seq", llama_cpp.llama_cpp._lib)
)
"""The addresses alone, where the package's own functions make pointer objects of them."""


def initialise() -> None:
    """Set llama.cpp up in this process, with its log in ours. Safe to call again."""
    # Where it aborts, its own sentence is to be the last line, not a debugger's hundred.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    llama_cpp.llama_log_set(log_callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()


class Batch:
    """One llama_batch whose arrays are ours: filled by slices instead of token by token.

    `tokens`, `positions`, `slots` (int32) and `outputs` (int8) have `size` entries; the first `n` of them count.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.tokens: Ints = np.zeros(size, np.int32)
        self.positions: Ints = np.zeros(size, np.int32)
        self.slots: Ints = np.zeros(size, np.int32)
        self.outputs: npt.NDArray[np.int8] = np.zeros(size, np.int8)
        self._counts: Ints = np.ones(size, np.int32)
        self._pointers = self.slots.ctypes.data + 4 * np.arange(size, dtype=np.uintp)
        self._struct = llama_cpp.llama_batch(
            0,
            ctypes.cast(self.tokens.ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            None,
            ctypes.cast(self.positions.ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            ctypes.cast(self._counts.ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            ctypes.cast(self._pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            ctypes.cast(self.outputs.ctypes.data, ctypes.POINTER(ctypes.c_int8)),
        )

    def of(self, n: int) -> Any:
        """The C struct with its first `n` entries."""
        self._struct.n_tokens = n
        return self._struct


class Logits:
    """A context's logits, of `vocab` tokens and at most `most` rows, as views of llama.cpp's own memory.

    A view is made when llama.cpp moves that memory: to make one takes longer than to find its largest number.
    """

    def __init__(self, context: Any, most: int, vocab: int) -> None:
        self._context = context
        self._shape = (most, vocab)
        self._at = 0
        self._view: Floats = np.empty((0, vocab), np.float32)

    def rows(self, rows: int) -> Floats:
        """Those of the last decode, (rows, vocab), in batch order. Valid until the next decode; do not write."""
        at = _get_logits(self._context)
        if not at:
            raise RuntimeError("llama.cpp has no logits of the last step")
        if at != self._at:
            # There may be fewer rows than the most; those that were not computed are never looked at.
            numbers = (ctypes.c_float * (self._shape[0] * self._shape[1])).from_address(at)
            self._at, self._view = at, np.ctypeslib.as_array(numbers).reshape(self._shape)
        return self._view[:rows]


class Vectors:
    """One llama_batch of tokens that are vectors (pictures), `width` numbers each, for one sequence and no logits."""

    def __init__(self, vectors: Floats, positions: Ints, slot: int) -> None:
        """(tokens, width); positions are (tokens,), or (dimensions, tokens) where there are several."""
        count = len(vectors)
        self._kept = (np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(positions, np.int32))
        self._counts: Ints = np.ones(count, np.int32)
        self._slots: Ints = np.full(count, slot, np.int32)
        self._pointers = self._slots.ctypes.data + 4 * np.arange(count, dtype=np.uintp)
        self._outputs: npt.NDArray[np.int8] = np.zeros(count, np.int8)
        self.struct = llama_cpp.llama_batch(
            count,
            None,
            ctypes.cast(self._kept[0].ctypes.data, ctypes.POINTER(ctypes.c_float)),
            ctypes.cast(self._kept[1].ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            ctypes.cast(self._counts.ctypes.data, ctypes.POINTER(ctypes.c_int32)),
            ctypes.cast(self._pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            ctypes.cast(self._outputs.ctypes.data, ctypes.POINTER(ctypes.c_int8)),
        )
