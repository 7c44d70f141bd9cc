"""Loads a GGUF and makes its context; what can go wrong becomes a failure class and a sentence."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llama_cpp

from llmservice_runtime.batching.scheduler import PROMPT_ROWS
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.memory import GPU, HOST, HeldLine, Part
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.resident import mapped
from llmservice_runtime.engines.llamacpp.arguments import FLASH, KV_TYPES, ROPE_SCALING, EngineArgs
from llmservice_runtime.engines.llamacpp.serve.binding import buffers, gpus, initialise, recent_errors
from llmservice_runtime.engines.llamacpp.serve.held import held
from llmservice_runtime.engines.llamacpp.serve.layout import KvShape, Layout, choose_layout, pad
from llmservice_runtime.engines.llamacpp.serve.mapped import let_go
from llmservice_runtime.machine.available import available_memory

if TYPE_CHECKING:  # imported where there is a projector alone
    from llmservice_runtime.engines.llamacpp.serve.sight import Sight

TYPE_BITS = {"f32": 32.0, "f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "q4_0": 4.5, "q4_1": 5.0, "iq4_nl": 4.5}
TYPE_BITS |= {"q5_0": 5.5, "q5_1": 6.0}
GIB = 1 << 30


class LoadedModel:
    """A model and its context. Freed by `close`, once no step runs."""

    def __init__(
        self,
        model: Any,
        context: Any,
        layout: Layout,
        settings: RuntimeSettings,
        batch: int,
        offloaded: bool,
        sight: Sight | None = None,
    ) -> None:
        self.model = model
        self.context = context
        self.layout = layout
        self.batch = batch
        self.outputs = most_outputs(settings)
        """Rows of logits that a step may have."""
        self.offloaded = offloaded
        """Whether a GPU computes a part of it."""
        self._path = Path(settings.model_path)
        self._buffers = list(buffers)
        self.gpus = tuple(gpus)
        self.sight = sight
        """What sees pictures; None = nothing does. Closed before the model."""

    def held(self) -> tuple[HeldLine, ...]:
        """What it has of memory."""
        weights = int(llama_cpp.llama_model_size(self.model))
        lines = held(self._buffers, weights, mapped(self._path.parent)[1])
        if self.sight is None:
            return tuple(lines)
        where = GPU if self.offloaded else HOST
        return (*lines, HeldLine(Part.WEIGHTS, where, self.sight.weight_bytes, self.sight.weight_bytes))

    def close(self) -> None:
        """Free the context and the model."""
        if self.context is not None:
            llama_cpp.llama_free(self.context)
            llama_cpp.llama_model_free(self.model)
            self.context = self.model = None


def load_model(settings: RuntimeSettings, args: EngineArgs, progress: Callable[[float], None]) -> LoadedModel:
    """Load `settings.model_path`. UserError carries the class (ModelDamaged, OutOfMemory...)."""
    initialise()
    buffers.clear()
    gpus.clear()
    model = open_model(settings, args, progress)
    try:
        _refuse_other_kinds(model, settings.model_path)
        require_tokenizer(model, settings.model_path)
        return _with_context(model, settings, args)
    except BaseException:
        llama_cpp.llama_model_free(model)
        raise


def open_model(settings: RuntimeSettings, args: EngineArgs, progress: Callable[[float], None]) -> Any:
    """The weights, without a context. UserError as of `load_model`."""
    path = Path(settings.model_path)
    if not path.is_file():
        raise UserError(
            f"There is no model file {path}.", "Check the path of the GGUF file.", FailureClass.MODEL_NOT_FOUND
        )

    def report(fraction: float, _data: Any) -> bool:
        progress(fraction)
        return True

    callback = llama_cpp.llama_progress_callback(report)
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = args.gpu_layers
    params.load_mode = (0 if args.no_mmap else 1) + (2 if args.mlock else 0)
    params.progress_callback = callback
    recent_errors.clear()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise _load_error(path)
    if not (args.no_mmap or args.mlock):
        let_go(path)
    return model


def _load_error(path: Path) -> UserError:
    said = " ".join(recent_errors)
    lower = said.lower()
    if ("cuda" in lower or "vulkan" in lower or "devicememory" in lower) and "memory" in lower:
        failure, remedy = FailureClass.OUT_OF_GPU_MEMORY, "Use a smaller quantization, or keep fewer layers on the GPU."
    elif "alloc" in lower or "out of memory" in lower:
        failure, remedy = FailureClass.OUT_OF_MEMORY, "Use a smaller quantization, or give this service more memory."
    elif "unknown model architecture" in lower or "unknown pre-tokenizer" in lower:
        failure, remedy = FailureClass.UNSUPPORTED_FORMAT, "This llama.cpp does not know the model; use a newer engine."
    else:
        failure, remedy = FailureClass.MODEL_DAMAGED, "Download the file again and compare its size or checksum."
    reason = recent_errors[0] if recent_errors else "llama.cpp gave no reason"
    return UserError(f"llama.cpp can't load {path} ({path.stat().st_size} bytes): {reason}.", remedy, failure)


def _refuse_other_kinds(model: Any, path: str) -> None:
    kind = ""
    if llama_cpp.llama_model_has_encoder(model) or not llama_cpp.llama_model_has_decoder(model):
        kind = "an encoder model"
    elif llama_cpp.llama_model_is_diffusion(model):
        kind = "a diffusion model"
    elif meta(model, "general.architecture").endswith("bert") or _pooling(model):
        kind = "an embedding model"
    if kind:
        raise UserError(
            f"{path} is {kind}; this engine generates text from left to right.",
            "Use a chat or completion model.",
            FailureClass.UNSUPPORTED_FORMAT,
        )


def require_tokenizer(model: Any, path: str) -> None:
    """llama.cpp loads a model without a vocabulary, and aborts the process at the first text."""
    if llama_cpp.llama_vocab_type(llama_cpp.llama_model_get_vocab(model)) == 0:
        raise UserError(
            f"{path} has no tokenizer in it.",
            "Use a GGUF file that was converted together with its tokenizer.",
            FailureClass.UNSUPPORTED_FORMAT,
        )


def _pooling(model: Any) -> bool:
    return meta(model, f"{meta(model, 'general.architecture')}.pooling_type") not in ("", "0")


def meta(model: Any, key: str) -> str:
    """What the file says of a key; empty = nothing."""
    buffer = ctypes.create_string_buffer(256)
    n = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, 256)
    return buffer.value.decode("utf-8", "replace") if n >= 0 else ""


def kv_shape(model: Any, kv_type: str) -> KvShape:
    """Upper bound: every layer as full attention."""
    heads = max(1, llama_cpp.llama_model_n_head(model))
    architecture = meta(model, "general.architecture")
    width = llama_cpp.llama_model_n_embd(model) // heads
    key = int(meta(model, f"{architecture}.attention.key_length") or width)
    value = int(meta(model, f"{architecture}.attention.value_length") or width)
    numbers = llama_cpp.llama_model_n_layer(model) * llama_cpp.llama_model_n_head_kv(model) * (key + value)
    recurrent = llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model)
    sliding = llama_cpp.llama_model_n_swa(model) > 0
    return KvShape(int(numbers * TYPE_BITS[kv_type] / 8), not recurrent and not sliding)


def _with_context(model: Any, settings: RuntimeSettings, args: EngineArgs) -> LoadedModel:
    shape = kv_shape(model, args.kv_type)
    available = available_memory()
    layout = choose_layout(
        shape,
        wanted=args.kv_layout,
        context_tokens=settings.context_tokens,
        sequences=settings.max_sequences,
        kv_tokens=settings.kv_tokens,
        available=available,
    )
    need = layout.cells * shape.token_bytes
    if args.gpu_layers == 0 and need > available:
        raise _too_big(settings, layout, shape, need, available)
    batch = max(args.batch_size, settings.max_sequences)
    params = _context_params(settings, args, layout, batch)
    recent_errors.clear()
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise _too_big(settings, layout, shape, need, available)
    try:
        sight = _sight(model, settings, args, batch)
    except BaseException:
        llama_cpp.llama_free(context)
        raise
    return LoadedModel(model, context, layout, settings, batch, args.gpu_layers != 0, sight)


def _sight(model: Any, settings: RuntimeSettings, args: EngineArgs, batch: int) -> Sight | None:
    """What sees pictures, where it was planned."""
    if not args.mmproj:
        return None
    from llmservice_runtime.engines.llamacpp.serve.sight import Sight

    path = Path(settings.model_path).parent / args.mmproj
    return Sight(path, model, args, compute_threads(settings, args), min(args.ubatch_size, batch))


def compute_threads(settings: RuntimeSettings, args: EngineArgs) -> int:
    """As asked for, or the CPUs that this process may use."""
    return args.threads or settings.threads or len(os.sched_getaffinity(0))


def most_outputs(settings: RuntimeSettings) -> int:
    """Rows of logits that a step may have: one per sequence, and some of prompts."""
    return settings.max_sequences + PROMPT_ROWS


def _context_params(settings: RuntimeSettings, args: EngineArgs, layout: Layout, batch: int) -> Any:
    threads = compute_threads(settings, args)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = layout.cells
    params.n_batch = batch
    params.n_ubatch = min(args.ubatch_size, batch)
    params.n_seq_max = layout.slots
    params.n_outputs_max = most_outputs(settings)
    params.n_threads = threads
    params.n_threads_batch = args.threads_batch or threads
    params.kv_unified = not layout.split
    params.swa_full = False
    params.flash_attn_type = FLASH[args.flash_attn]
    params.type_k = params.type_v = KV_TYPES[args.kv_type]
    if args.rope_scaling:
        params.rope_scaling_type = ROPE_SCALING[args.rope_scaling]
    params.rope_freq_base = args.rope_freq_base
    params.rope_freq_scale = args.rope_freq_scale
    params.no_perf = True
    params.op_offload = args.gpu_layers != 0  # a plan for the CPU takes nothing of a GPU, also where the build could
    return params


def _too_big(settings: RuntimeSettings, layout: Layout, shape: KvShape, need: int, available: int) -> UserError:
    fits = max(0, available - GIB // 4) // max(1, shape.token_bytes)
    said = f" llama.cpp says: {recent_errors[0]}." if recent_errors else ""
    return UserError(
        f"The KV cache of {layout.cells} tokens needs {need / GIB:.2f} GiB, {available / GIB:.2f} GiB are free.{said}",
        f"About {fits} tokens fit: lower contextTokens ({settings.context_tokens}) or the sequences"
        f" ({settings.max_sequences}), or use --kv-type q8_0.",
        FailureClass.OUT_OF_MEMORY if pad(settings.context_tokens) > fits or need > available else FailureClass.CRASHED,
    )
