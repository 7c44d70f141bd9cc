"""Ending a llama_decode that is under way, from another thread: it computes batch work, and a live request came.

llama.cpp asks a function of C before each operation whether to go on. One of Python's would need the interpreter
hundreds of times a step; `strlen` does as well: of one byte in our hands, 0 = go on.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp

ABORTED = 2
"""What llama_decode says then. It has taken back what it was at, and has kept what it had done before in that call."""
_ask = llama_cpp.ggml_abort_callback(ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value or 0)
_never = llama_cpp.ggml_abort_callback(0)


class Halt:
    """Of one context, whose operations are on CPUs. `now` is for any thread, the rest for the one that decodes."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._wish = ctypes.create_string_buffer(2)

    def now(self) -> None:
        """End the decode at hand, or the next one that may be ended."""
        self._wish[0] = b"\x01"

    @property
    def wished(self) -> bool:
        """Whether a decode may have been ended."""
        return self._wish[0] != b"\x00"

    def clear(self) -> None:
        """There is no such wish any more."""
        self._wish[0] = b"\x00"

    def __enter__(self) -> None:
        """A decode in here may be ended."""
        llama_cpp.llama_set_abort_callback(self._context, _ask, ctypes.cast(self._wish, ctypes.c_void_p))

    def __exit__(self, *_: object) -> None:
        llama_cpp.llama_set_abort_callback(self._context, _never, None)
