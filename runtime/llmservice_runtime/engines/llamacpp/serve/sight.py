"""llama.cpp's library for pictures (libmtmd): a projector beside the model, and what it makes of pixels. Blocks."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.llamacpp.arguments import FLASH, EngineArgs
from llmservice_runtime.engines.llamacpp.serve.binding import log_callback, recent_errors
from llmservice_runtime.protocol.pictures import UnseenError

MARKER = b"<__media__>"
"""What libmtmd puts a picture in the place of. Nobody else's text comes along with it."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One thing that a picture becomes: `tokens` of text, or a `chunk` of so many tokens to be computed."""

    tokens: tuple[int, ...] = ()
    chunk: Any = None
    """Freed with the picture (`Chunks`)."""
    count: int = 0
    advance: int = 0
    places: npt.NDArray[np.int32] | None = None
    whole: bool = False


class Chunks:
    """The parts of one picture, and the native memory that they are in."""

    def __init__(self, native: Any, parts: tuple[Part, ...]) -> None:
        self._native = native
        self.parts = parts

    def __del__(self) -> None:
        mtmd().mtmd_input_chunks_free(self._native)


def mtmd() -> Any:
    """The package's bindings, imported where there is a projector alone: they load a library of their own."""
    import llama_cpp.mtmd_cpp as bindings

    return bindings


class Sight:
    """A loaded projector. `width` numbers are one token's vector. Not for two threads at a time."""

    def __init__(self, path: Path, model: Any, args: EngineArgs, threads: int, step_tokens: int) -> None:
        """UserError for a file that is none, or another model's. `step_tokens`: most tokens of one graph."""
        bindings = mtmd()
        bindings.mtmd_helper_log_set(log_callback, ctypes.c_void_p(0))
        params = bindings.mtmd_context_params_default()
        params.use_gpu = args.gpu_layers != 0
        params.print_timings = False
        params.n_threads = threads
        params.media_marker = MARKER
        params.flash_attn_type = FLASH[args.flash_attn]
        params.image_max_tokens = args.image_max_tokens
        if not path.is_file():
            raise UserError(f"There is no projector {path}.", "Download the model again.", FailureClass.MODEL_NOT_FOUND)
        recent_errors.clear()
        self._context = bindings.mtmd_init_from_file(os.fsencode(path), model, params)
        if not self._context or not bindings.mtmd_support_vision(self._context):
            raise _unusable(path)
        self.weight_bytes = path.stat().st_size
        """Of its file, which is little more than tensors."""
        self.image_tokens = args.image_max_tokens
        """Of one picture at most, where the encoder sees each in its own size."""
        self.width = int(llama_cpp.llama_model_n_embd_inp(model))
        self._turned = bool(bindings.mtmd_decode_use_mrope(self._context))
        self._step_tokens = step_tokens

    def parts(self, width: int, height: int, rgb: bytes) -> Chunks:
        """What a picture becomes in a prompt. UnseenError when it can't be shown."""
        bindings = mtmd()
        data = ctypes.cast(ctypes.c_char_p(rgb), ctypes.POINTER(ctypes.c_uint8))
        bitmap = bindings.mtmd_bitmap_init(width, height, data)
        chunks = bindings.mtmd_input_chunks_init()
        try:
            text = bindings.mtmd_input_text(MARKER, len(MARKER), False, True)
            bitmaps = (ctypes.c_void_p * 1)(bitmap)
            recent_errors.clear()
            code = bindings.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1)
            if code:
                raise UnseenError(f"can't be shown to this model: {_said(code)}")
            found = Chunks(chunks, self._read(chunks))
            chunks = None
            return found
        finally:
            bindings.mtmd_bitmap_free(bitmap)
            if chunks is not None:
                bindings.mtmd_input_chunks_free(chunks)

    def _read(self, chunks: Any) -> tuple[Part, ...]:
        bindings = mtmd()
        count = int(bindings.mtmd_input_chunks_size(chunks))
        return tuple(self._part(bindings.mtmd_input_chunks_get(chunks, number)) for number in range(count))

    def _part(self, chunk: Any) -> Part:
        bindings = mtmd()
        if bindings.mtmd_input_chunk_get_type(chunk) == bindings.MTMD_INPUT_CHUNK_TYPE_TEXT:
            size = ctypes.c_size_t()
            tokens = bindings.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(size))
            return Part(tuple(tokens[: size.value]))
        count = int(bindings.mtmd_input_chunk_get_n_tokens(chunk))
        whole = bool(bindings.mtmd_decode_use_non_causal(self._context, chunk))
        if whole and count > self._step_tokens:
            raise UnseenError(
                f"takes {count} tokens of this model, which have to be computed together, and --ubatch-size is"
                f" {self._step_tokens}"
            )
        return Part(
            chunk=chunk,
            count=count,
            advance=int(bindings.mtmd_input_chunk_get_n_pos(chunk)),
            places=self._places(chunk, count) if self._turned else None,
            whole=whole,
        )

    def _places(self, chunk: Any, count: int) -> npt.NDArray[np.int32]:
        """Positions of its tokens as they are where it begins the prompt: (time, row, column, unused)."""
        bindings = mtmd()
        image = bindings.mtmd_input_chunk_get_tokens_image(chunk)
        places = [bindings.mtmd_image_tokens_get_decoder_pos(image, 0, token) for token in range(count)]
        return np.array([(place.t, place.y, place.x, place.z) for place in places], np.int32).T

    def vectors(self, part: Part) -> npt.NDArray[np.float32]:
        """Compute one part: (tokens, width). UnseenError when llama.cpp fails."""
        bindings = mtmd()
        recent_errors.clear()
        if code := bindings.mtmd_encode_chunk(self._context, part.chunk):
            raise UnseenError(f"can't be computed: {_said(code)}")
        found = bindings.mtmd_get_output_embd(self._context)
        return np.ctypeslib.as_array(found, (part.count, self.width)).astype(np.float32)

    def close(self) -> None:
        """Free the projector; before its model."""
        if self._context is not None:
            mtmd().mtmd_free(self._context)
            self._context = None


def _said(code: int) -> str:
    return recent_errors[-1] if recent_errors else f"llama.cpp failed with {code}"


def _unusable(path: Path) -> UserError:
    reason = recent_errors[0] if recent_errors else "it sees no pictures"
    return UserError(
        f"llama.cpp can't use the projector {path}: {reason}.",
        "Use the mmproj file that was converted with this model, or set engine.args: [--no-mmproj]: text alone.",
        FailureClass.UNSUPPORTED_FORMAT,
    )
