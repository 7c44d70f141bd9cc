"""The estimate against what llama.cpp itself allocates, on random models of several shapes."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmservice_runtime.batching.scheduler import PROMPT_ROWS
from llmservice_runtime.engines.llamacpp.memory import LlamaMemory, processes, slots, streams
from llmservice_runtime.estimate.budget import RESERVE, Shape
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts
from llmservice_runtime.machine.machine import Device

MIB = 1 << 20
pytestmark = pytest.mark.engine


def write_llama(path: Path, layers: int, hidden: int, ff: int, heads: int, kv_heads: int, vocab: int) -> int:
    """A random fp16 Llama; returns the sum of its tensor bytes."""
    import gguf

    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(65536)
    out.add_embedding_length(hidden)
    out.add_block_count(layers)
    out.add_feed_forward_length(ff)
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_vocab_size(vocab)
    out.add_file_type(1)
    out.add_tokenizer_model("llama")
    special = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % byte for byte in range(256))]
    out.add_token_list(special + [b"t%d" % n for n in range(len(special), vocab)])
    out.add_token_scores([0.0] * vocab)
    out.add_token_types([2, 3, 3] + [6] * 256 + [1] * (vocab - 259))
    size = 0

    def tensor(name: str, *shape: int) -> None:
        nonlocal size
        data = np.zeros(shape, np.float16 if len(shape) > 1 else np.float32)
        size += data.nbytes
        out.add_tensor(name, data)

    tensor("token_embd.weight", vocab, hidden)
    tensor("output.weight", vocab, hidden)
    tensor("output_norm.weight", hidden)
    width = hidden // heads * kv_heads
    for n in range(layers):
        for name, *shape in (
            ("attn_norm", hidden), ("ffn_norm", hidden), ("attn_q", hidden, hidden), ("attn_k", width, hidden),
            ("attn_v", width, hidden), ("attn_output", hidden, hidden), ("ffn_gate", ff, hidden),
            ("ffn_up", ff, hidden), ("ffn_down", hidden, ff),
        ):  # fmt: skip
            tensor(f"blk.{n}.{name}.weight", *shape)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return size


@contextmanager
def log_of(llama_cpp: Any) -> Iterator[list[str]]:
    """llama.cpp's log lines while inside."""
    lines: list[str] = []
    callback = llama_cpp.llama_log_callback(lambda _level, text, _data: lines.append(text.decode(errors="replace")))
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield lines
    finally:
        silent = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
        log_of.silent = silent  # type: ignore[attr-defined]  # the library keeps a pointer to it
        llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))


def allocated(path: Path, shape: Shape) -> int:
    """Bytes of all buffers that llama.cpp reports for a model and a context of this shape."""
    import llama_cpp

    with log_of(llama_cpp) as lines:
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        # As the engine asks for it (llmservice_runtime.engines.llamacpp.serve.model).
        params.n_ctx, params.n_seq_max = shape.kv_tokens, slots(shape)
        params.n_batch, params.n_ubatch = 2048, 512
        params.n_outputs_max = shape.sequences + PROMPT_ROWS
        params.kv_unified = not streams(shape)
        params.swa_full = False
        params.flash_attn_type = 1
        context = llama_cpp.llama_init_from_model(model, params)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
    sizes = [re.search(r"buffer size =\s*([\d.]+) MiB", line) for line in lines]
    return int(sum(float(found[1]) for found in sizes if found) * MIB)


@pytest.mark.parametrize(
    ("layers", "hidden", "ff", "heads", "kv_heads", "vocab"),
    [
        (4, 512, 1408, 8, 4, 32000),
        (2, 1024, 4096, 16, 4, 32000),
        (2, 512, 1408, 8, 8, 128000),
        (3, 1024, 4096, 16, 16, 64000),
    ],
)
@pytest.mark.parametrize(("context", "pool"), [(2048, 16 * 2048), (32768, 32768)])
def test_the_estimate_holds_what_llama_cpp_allocates(
    geometry: Callable[..., ModelFacts],
    tmp_path: Path,
    layers: int,
    hidden: int,
    ff: int,
    heads: int,
    kv_heads: int,
    vocab: int,
    context: int,
    pool: int,
) -> None:
    path = tmp_path / "model.gguf"
    size = write_llama(path, layers, hidden, ff, heads, kv_heads, vocab)
    facts = geometry(
        "llama-3.1-8b-q4",
        weight_bytes=size,
        parameters=size // 2,
        layers=(LayerGroup(LayerKind.FULL, layers, kv_heads, hidden // heads, hidden // heads),),
        hidden_size=hidden,
        attention_heads=heads,
        vocab_size=vocab,
        layer_weight_bytes=((size - 4 * hidden * vocab) // layers,) * layers,
    )
    shape = Shape(Device.CPU, context, 16, pool, page=LlamaMemory.page)
    predicted = sum(line.bytes for line in LlamaMemory().lines(facts, shape) if line.name != RESERVE) - processes(facts)
    actual = allocated(path, shape)
    print(f"predicted {predicted / MIB:.1f} MiB, allocated {actual / MIB:.1f} MiB, {predicted / actual - 1:+.1%}")
    assert actual <= predicted * 1.002, "on the conservative side (sizes are logged with two decimals)"
    assert predicted <= actual * 1.10
