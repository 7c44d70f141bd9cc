"""Proves a built llama.cpp on this CPU: decodes a few tokens of a tiny quantized model, in the engine's environment.

`python -m llmservice_runtime.engines.llamacpp.install.check` exits 0, or dies as the library makes it die (SIGILL,
SIGSEGV). The model is random and made here: one Llama layer whose matrices are Q4_K and Q6_K, the kernels that break
when the build's flags and the CPU disagree.
"""

from __future__ import annotations

import ctypes
import math
import random
import struct
import sys
import tempfile
from pathlib import Path

WIDTH = 256
VOCABULARY = 512
TOKENS = 24
_U32, _F32, _STRING = 4, 6, 8
_TYPE_F32, _TYPE_Q4_K, _TYPE_Q6_K = 0, 12, 14
_ALIGNMENT = 32


def tiny_model() -> bytes:
    """A GGUF file of about 300 kB without a tokenizer."""
    chance = random.Random(7)
    tensors: list[tuple[str, tuple[int, ...], int, bytes]] = [
        ("token_embd.weight", (WIDTH, VOCABULARY), _TYPE_Q4_K, _q4_k(VOCABULARY, chance)),
        ("output.weight", (WIDTH, VOCABULARY), _TYPE_Q6_K, _q6_k(VOCABULARY, chance)),
        ("output_norm.weight", (WIDTH,), _TYPE_F32, _ones()),
        ("blk.0.attn_norm.weight", (WIDTH,), _TYPE_F32, _ones()),
        ("blk.0.ffn_norm.weight", (WIDTH,), _TYPE_F32, _ones()),
    ]
    tensors += [
        (f"blk.0.{name}.weight", (WIDTH, WIDTH), _TYPE_Q4_K, _q4_k(WIDTH, chance))
        for name in ("attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up")
    ]
    tensors += [
        (f"blk.0.{name}.weight", (WIDTH, WIDTH), _TYPE_Q6_K, _q6_k(WIDTH, chance)) for name in ("attn_v", "ffn_down")
    ]
    fields = [
        _field("general.architecture", "llama"),
        _field("tokenizer.ggml.model", "none"),
        _field("llama.vocab_size", VOCABULARY),
        _field("llama.context_length", 64),
        _field("llama.embedding_length", WIDTH),
        _field("llama.block_count", 1),
        _field("llama.feed_forward_length", WIDTH),
        _field("llama.attention.head_count", 4),
        _field("llama.attention.head_count_kv", 4),
        _field("llama.rope.dimension_count", WIDTH // 4),
        _field("llama.attention.layer_norm_rms_epsilon", 1e-5),
    ]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(fields)) + b"".join(fields)
    data = b""
    for name, shape, kind, body in tensors:
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += _string(name) + dimensions + struct.pack("<IQ", kind, len(data))
        data += body + bytes(-len(body) % _ALIGNMENT)
    return head + bytes(-len(head) % _ALIGNMENT) + data


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _field(name: str, value: str | int | float) -> bytes:
    if isinstance(value, str):
        return _string(name) + struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, float):
        return _string(name) + struct.pack("<If", _F32, value)
    return _string(name) + struct.pack("<II", _U32, value)


def _ones() -> bytes:
    return struct.pack(f"<{WIDTH}f", *[1.0] * WIDTH)


def _q4_k(rows: int, chance: random.Random) -> bytes:
    """One block of 256 weights a row: scale and minimum (f16), 12 bytes of sub-scales, 128 bytes of nibbles."""
    return b"".join(struct.pack("<ee", 2e-4, 1e-3) + chance.randbytes(140) for _ in range(rows))


def _q6_k(rows: int, chance: random.Random) -> bytes:
    """One block of 256 weights a row: 192 bytes of quants, 16 sub-scales, the scale (f16)."""
    return b"".join(chance.randbytes(208) + struct.pack("<e", 2e-5) for _ in range(rows))


def main() -> int:
    """Load, decode one prompt and one token, look at the numbers."""
    import llama_cpp

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gguf"
        path.write_bytes(tiny_model())
        silent = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not model:
            sys.stderr.write("the built library can't load a model\n")
            return 1
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_threads = 64, 64, 2
        context = llama_cpp.llama_init_from_model(model, parameters)
        for count in (TOKENS, 1):
            tokens = (llama_cpp.llama_token * count)(*range(1, count + 1))
            if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, count)) != 0:
                sys.stderr.write("the built library can't decode\n")
                return 1
            logits = llama_cpp.llama_get_logits(context)
            values = [logits[i] for i in range(VOCABULARY)]
            if not all(map(math.isfinite, values)) or len(set(values)) < VOCABULARY // 2:
                sys.stderr.write("the built library computes nonsense\n")
                return 1
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
