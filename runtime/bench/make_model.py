"""The benchmark's model: random weights, Llama architecture, 230 million parameters, 32k tokens, Q4_K_M."""

from __future__ import annotations

import ctypes
import itertools
import string
import sys
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.install.wheel import exclusive

LAYERS, WIDTH, HEADS, KV_HEADS, FORWARD, VOCAB, CONTEXT = 14, 1024, 16, 8, 2816, 32000, 4096
NAME = "random-230m-q4_k_m.gguf"
Q4_K_M = 15
"""llama_ftype."""


def tokens() -> tuple[list[bytes], list[int]]:
    """A SentencePiece vocabulary (pieces, types): control tokens, all bytes, every word of one to three letters."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [int(gguf.TokenType.UNKNOWN), *[int(gguf.TokenType.CONTROL)] * 2, *[int(gguf.TokenType.BYTE)] * 256]
    letters = string.ascii_lowercase
    words = ["▁", *letters, *("▁" + letter for letter in letters)]
    words += ["".join(pair) for pair in itertools.product(letters, repeat=2)]
    words += ["▁" + "".join(word) for size in (2, 3) for word in itertools.product(letters, repeat=size)]
    words = words[: VOCAB - len(pieces)]
    filler = [f"tok{number}" for number in range(VOCAB - len(pieces) - len(words))]
    types += [int(gguf.TokenType.NORMAL)] * (len(words) + len(filler))
    return [piece.encode() for piece in (*pieces, *words, *filler)], types


def write_f16(path: Path, seed: int = 0) -> None:
    """Write the model with f16 matrices, N(0, 0.02), from a seed."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(1)
    pieces, types = tokens()
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([float(-number) for number in range(VOCAB)])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
        writer.add_tensor(name, values.astype(np.float16))

    matrix("token_embd.weight", VOCAB, WIDTH)
    matrix("output.weight", VOCAB, WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(WIDTH, np.float32))
        kv_width = KV_HEADS * WIDTH // HEADS
        matrix(f"{block}attn_q.weight", WIDTH, WIDTH)
        matrix(f"{block}attn_k.weight", kv_width, WIDTH)
        matrix(f"{block}attn_v.weight", kv_width, WIDTH)
        matrix(f"{block}attn_output.weight", WIDTH, WIDTH)
        matrix(f"{block}ffn_gate.weight", FORWARD, WIDTH)
        matrix(f"{block}ffn_up.weight", FORWARD, WIDTH)
        matrix(f"{block}ffn_down.weight", WIDTH, FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_model(folder: Path) -> Path:
    """Path of the quantized model in `folder`; made once (about half a minute), complete or not there."""
    target = folder / NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / f".{NAME}.lock", "another process makes the benchmark's model; waiting for it"):
        if not target.exists():
            _make(target)
    return target


def _make(target: Path) -> None:
    wide, half = target.with_suffix(".f16"), target.with_suffix(".new")
    sys.stderr.write("==> making the benchmark's model (once)\n")
    try:
        write_f16(wide)
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = Q4_K_M
        quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        if llama_cpp.llama_model_quantize(str(wide).encode(), str(half).encode(), params) != 0:
            raise SystemExit(f"error: llama.cpp can't quantize {wide}")
        half.rename(target)
    finally:
        wide.unlink(missing_ok=True)
        half.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.stdout.write(f"{make_model(cache_dir() / 'bench')}\n")
