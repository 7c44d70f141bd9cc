"""Vectors and scores by llama.cpp: one context that pools what it computes, as the GGUF says."""

from __future__ import annotations

import ctypes
import os
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.memory import HeldLine
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.resident import mapped
from llmservice_runtime.engines.llamacpp.arguments import FLASH, EngineArgs
from llmservice_runtime.engines.llamacpp.memory import step_tokens
from llmservice_runtime.engines.llamacpp.serve.binding import (
    Batch,
    buffers,
    get_embeddings_seq,
    gpus,
    initialise,
    recent_errors,
)
from llmservice_runtime.engines.llamacpp.serve.held import held
from llmservice_runtime.engines.llamacpp.serve.model import meta, open_model, require_tokenizer
from llmservice_runtime.engines.llamacpp.serve.tokenizer import LlamaTokenizer
from llmservice_runtime.pooling.queue import TEXTS
from llmservice_runtime.protocol.pooling import PoolInput, Question, Traits, Vector

POOLINGS = {"1": "Mean", "2": "CLS", "3": "Last", "4": "Rank"}
"""llama_pooling_type, of those that give one vector or score for a text."""


class PooledLlama:
    """A model and its context. See pooling.engine.PooledModel. Freed by `close`, once no step runs."""

    padded = False

    def __init__(self, model: Any, context: Any, settings: RuntimeSettings, tokens: int, offloaded: bool) -> None:
        self.model = model
        self.context = context
        self.tokenizer = LlamaTokenizer(model)
        self.step_tokens = tokens
        self.gpus = tuple(gpus)
        self._ranks = settings.task == "Rerank"
        self._question = _question(model) if self._ranks else None
        width = 1 if self._ranks else int(llama_cpp.llama_model_n_embd_out(model))
        self.traits = Traits(width, question=self._question)
        self._batch = Batch(tokens)
        self._batch.outputs[:] = 1
        self._memory = llama_cpp.llama_get_memory(context)
        """None: an encoder keeps nothing."""
        self._offloaded = offloaded
        self._path = Path(settings.model_path)
        self._buffers = list(buffers)

    def pair(self, query: Sequence[int], document: Sequence[int]) -> PoolInput:
        """As the vocabulary frames two texts: `<s> query </s></s> document </s>`."""
        vocab, tokenizer = self.tokenizer.vocab, self.tokenizer
        separator = int(llama_cpp.llama_vocab_sep(vocab))
        end = [tokenizer.eos if tokenizer.eos >= 0 else separator] if llama_cpp.llama_vocab_get_add_eos(vocab) else []
        between = [separator] if llama_cpp.llama_vocab_get_add_sep(vocab) else []
        begin = [tokenizer.bos] if llama_cpp.llama_vocab_get_add_bos(vocab) else []
        first = [*begin, *query, *end, *between]
        return PoolInput([*first, *document, *end], second=len(first))

    def compute(self, inputs: Sequence[PoolInput]) -> Sequence[Vector]:
        """See PooledModel. RuntimeError when llama.cpp fails."""
        batch, n = self._batch, 0
        for slot, given in enumerate(inputs):
            end = n + len(given.tokens)
            batch.tokens[n:end] = given.tokens
            batch.positions[n:end] = np.arange(end - n, dtype=np.int32)
            batch.slots[n:end] = slot
            n = end
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, False)
        run = llama_cpp.llama_decode if self._memory else llama_cpp.llama_encode
        if code := int(run(self.context, batch.of(n))):
            said = f": {recent_errors[-1]}" if recent_errors else ""
            raise RuntimeError(f"llama.cpp failed with {code}{said}")
        if self._offloaded:
            llama_cpp.llama_synchronize(self.context)
        return [self._vector(slot) for slot in range(len(inputs))]

    def _vector(self, slot: int) -> Vector:
        """A score is made 0 to 1, as sentence-transformers does it; a vector gets the length 1, as llama.cpp's own
        server does it: a GGUF does not say."""
        at = get_embeddings_seq(self.context, slot)
        if not at:
            raise RuntimeError("llama.cpp has no vector of the last step")
        found = np.frombuffer(ctypes.string_at(at, 4 * self.traits.dimensions), np.float32)
        if self._question:
            return array("f", [float(found[0])])  # how likely yes is, of yes and no
        if self._ranks:
            return array("f", [float(1 / (1 + np.exp(-found[0])))])
        length = float(np.linalg.norm(found.astype(np.float64)))  # squares of large numbers are none in 32 bits
        return array("f", (found / length if length else found).tobytes())

    def held(self) -> tuple[HeldLine, ...]:
        """What it has of memory."""
        weights = int(llama_cpp.llama_model_size(self.model))
        return tuple(held(self._buffers, weights, mapped(self._path.parent)[1], cached=bool(self._memory)))

    def close(self) -> None:
        """Free the context and the model."""
        if self.context is not None:
            llama_cpp.llama_free(self.context)
            llama_cpp.llama_model_free(self.model)
            self.context = self.model = None


def load_pooled(settings: RuntimeSettings, args: EngineArgs, progress: Callable[[float], None]) -> PooledLlama:
    """Load `settings.model_path`. UserError carries the class (ModelDamaged, UnsupportedFormat...)."""
    initialise()
    buffers.clear()
    gpus.clear()
    model = open_model(settings, args, progress)
    try:
        _refuse(model, settings)
        require_tokenizer(model, settings.model_path)
        tokens = step_tokens(settings.context_tokens, args.ubatch_size)
        recent_errors.clear()
        context = llama_cpp.llama_init_from_model(model, _context_params(settings, args, tokens))
        if not context:
            raise UserError(
                f"llama.cpp makes no context of {tokens} tokens: {recent_errors[0] if recent_errors else 'no reason'}.",
                "Lower contextTokens, or give this service more memory.",
                FailureClass.OUT_OF_MEMORY,
            )
        return PooledLlama(model, context, settings, tokens, args.gpu_layers != 0)
    except BaseException:
        llama_cpp.llama_model_free(model)
        raise


def _refuse(model: Any, settings: RuntimeSettings) -> None:
    """What the plan refuses too, where it could read the header."""
    pooling = POOLINGS.get(meta(model, f"{meta(model, 'general.architecture')}.pooling_type"), "")
    ranks = settings.task == "Rerank"
    if not pooling or ranks != (pooling == "Rank"):
        raise UserError(
            f"{settings.model_path} pools by {pooling or 'nothing'}, and the task is {settings.task}.",
            "Convert the model again by a converter that reads its pooling, or set the task that it is for.",
            FailureClass.UNSUPPORTED_FORMAT,
        )
    outputs = int(llama_cpp.llama_model_n_cls_out(model))
    if ranks and _question(model):
        labels = [llama_cpp.llama_model_cls_label(model, number) for number in range(outputs)]
        if labels != [b"yes", b"no"]:
            raise UserError(
                f"{settings.model_path} is asked by a template, and its outputs are {labels}, not yes and no.",
                "Convert the model again by llama.cpp's own converter.",
                FailureClass.UNSUPPORTED_FORMAT,
            )
    elif ranks and outputs != 1:
        raise UserError(
            f"{settings.model_path} sorts texts into {outputs} classes; a reranker has one score.",
            "Use a reranking model.",
            FailureClass.UNSUPPORTED_FORMAT,
        )


def _question(model: Any) -> Question | None:
    """The template of a decoder that is asked; None = there is none."""
    template = (llama_cpp.llama_model_chat_template(model, b"rerank") or b"").decode("utf-8", "replace")
    before, query, rest = template.partition("{query}")
    between, document, after = rest.partition("{document}")
    return Question(before, between, after) if query and document else None


def _context_params(settings: RuntimeSettings, args: EngineArgs, tokens: int) -> Any:
    """All texts of a step are computed in one go, which encoders need."""
    threads = args.threads or settings.threads or len(os.sched_getaffinity(0))
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = tokens
    params.n_outputs_max = params.n_outputs_max_per_seq = 0
    params.n_seq_max = TEXTS
    params.n_threads = threads
    params.n_threads_batch = args.threads_batch or threads
    params.kv_unified = True
    params.swa_full = False
    params.embeddings = True
    params.flash_attn_type = FLASH[args.flash_attn]
    params.rope_freq_base = args.rope_freq_base
    params.rope_freq_scale = args.rope_freq_scale
    params.no_perf = True
    params.op_offload = args.gpu_layers != 0
    return params
