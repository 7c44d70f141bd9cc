"""Models of benchmarks: random weights, Llama architecture, 32k tokens; as Q4_K_M, or as checkpoints."""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import shutil
import string
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

from bench.prompts import WORDS
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.install.wheel import exclusive

VOCAB, CONTEXT = 32000, 4096
Q4_K_M = 15
"""llama_ftype."""
TYPES = {"BF16": "bfloat16", "F32": "float32"}
"""Of checkpoints, as their header and as config.json spell them."""


@dataclass(frozen=True, slots=True)
class Size:
    """One model."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    forward: int


SMALL = Size("random-230m", 14, 1024, 16, 8, 2816)
LARGE = Size("random-1b", 16, 2048, 32, 8, 8192)


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


def write_f16(path: Path, size: Size = SMALL, seed: int = 0) -> None:
    """Write the model with f16 matrices, N(0, 0.02), from a seed."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(size.width)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(size.forward)
    writer.add_head_count(size.heads)
    writer.add_head_count_kv(size.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(size.width // size.heads)
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

    matrix("token_embd.weight", VOCAB, size.width)
    matrix("output.weight", VOCAB, size.width)
    writer.add_tensor("output_norm.weight", np.ones(size.width, np.float32))
    for layer in range(size.layers):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(size.width, np.float32))
        kv_width = size.kv_heads * size.width // size.heads
        matrix(f"{block}attn_q.weight", size.width, size.width)
        matrix(f"{block}attn_k.weight", kv_width, size.width)
        matrix(f"{block}attn_v.weight", kv_width, size.width)
        matrix(f"{block}attn_output.weight", size.width, size.width)
        matrix(f"{block}ffn_gate.weight", size.forward, size.width)
        matrix(f"{block}ffn_up.weight", size.forward, size.width)
        matrix(f"{block}ffn_down.weight", size.width, size.forward)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_model(folder: Path, size: Size = SMALL) -> Path:
    """Path of the quantized model in `folder`; made once (about half a minute), complete or not there."""
    target = folder / f"{size.name}-q4_k_m.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / f".{target.name}.lock", "another process makes the benchmark's model; waiting for it"):
        if not target.exists():
            _make(target, size)
    return target


def make_checkpoint(folder: Path, size: Size, tokenizer: Path | None = None, dtype: str = "BF16") -> Path:
    """The folder of such a model in safetensors (BF16 or F32) below `folder`, without a token that ends an answer. Made
    once, complete or not there.

    With the tokenizer files of another model most of its tokens are no text; without, a word is a token, so that
    prompts need no count.
    """
    target = folder / "-".join([size.name, dtype.lower(), *(["words"] if tokenizer is None else [])])
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / f".{target.name}.lock", "another process makes the benchmark's model; waiting for it"):
        if not target.exists():
            sys.stderr.write("==> making the benchmark's model (once)\n")
            new = target.with_name(f"{target.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            if tokenizer is None:
                _write_words(new)
            else:
                for name in ("tokenizer.json", "tokenizer_config.json"):
                    shutil.copy(tokenizer / name, new)
            (new / "config.json").write_text(json.dumps(_config(size, dtype)))
            _write_tensors(new / "model.safetensors", size, dtype)
            new.rename(target)
    return target


def _write_words(folder: Path) -> None:
    words = ["<unk>", *WORDS, *(f"w{number}" for number in range(VOCAB - 1 - len(WORDS)))]
    model = {"type": "WordLevel", "vocab": dict(zip(words, range(VOCAB), strict=True)), "unk_token": words[0]}
    body: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": model,
    }
    body |= dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    (folder / "tokenizer.json").write_text(json.dumps(body))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": words[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


def _config(size: Size, dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": size.width,
        "intermediate_size": size.forward,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
        "torch_dtype": TYPES[dtype],
    }


def _tensors(size: Size) -> dict[str, tuple[int, ...]]:
    kv = size.kv_heads * size.width // size.heads
    wide, narrow = (size.forward, size.width), (size.width, size.forward)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, size.width)}
    for layer in range(size.layers):
        block = {
            "self_attn.q_proj": (size.width, size.width),
            "self_attn.k_proj": (kv, size.width),
            "self_attn.v_proj": (kv, size.width),
            "self_attn.o_proj": (size.width, size.width),
            "mlp.gate_proj": wide,
            "mlp.up_proj": wide,
            "mlp.down_proj": narrow,
            "input_layernorm": (size.width,),
            "post_attention_layernorm": (size.width,),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    return shapes | {"model.norm.weight": (size.width,), "lm_head.weight": (VOCAB, size.width)}


def _write_tensors(path: Path, size: Size, dtype: str, seed: int = 0) -> None:
    """N(0, 0.02), norms of ones; bf16 is the upper half of float32."""
    rng, header, end, width = np.random.default_rng(seed), {}, 0, 4 if dtype == "F32" else 2
    for name, shape in _tensors(size).items():
        begin, end = end, end + width * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in _tensors(size).values():
            values = np.ones(shape, np.float32)
            if len(shape) > 1:
                values = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            if dtype == "BF16":
                file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
            else:
                file.write(values.tobytes())


def _make(target: Path, size: Size) -> None:
    wide, half = target.with_suffix(".f16"), target.with_suffix(".new")
    sys.stderr.write("==> making the benchmark's model (once)\n")
    try:
        write_f16(wide, size)
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
