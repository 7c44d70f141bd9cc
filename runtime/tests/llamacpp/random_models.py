"""Tiny GGUF files with random weights: each kind of memory llama.cpp has, and models that can't generate."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, HIDDEN, CONTEXT, WINDOW = 64, 2, 2, 128, 512, 32
INNER, STATE, KERNEL, RANK = 2 * WIDTH, 16, 4, 4
WORDS = ["▁", "e", "s", "es", "▁es", "▁e", "▁s", "y", "n", "o", "▁o", "▁y", "▁n", "the", "▁the"]
Shapes = dict[str, tuple[int, ...]]


def write(path: Path, kind: str) -> Path:
    """Write a model: llama, gemma2 (sliding window), mamba (recurrent), bert (encoder) or pooled (embeddings)."""
    architecture = "llama" if kind == "pooled" else kind
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(0 if kind == "mamba" else HIDDEN)
    writer.add_head_count(0 if kind == "mamba" else HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    if kind == "pooled":
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    if kind == "bert":
        writer.add_layer_norm_eps(1e-5)
        writer.add_causal_attention(False)
        writer.add_token_type_count(2)
    if kind == "gemma2":
        writer.add_head_count_kv(HEADS)
        writer.add_key_length(WIDTH // HEADS)
        writer.add_value_length(WIDTH // HEADS)
        writer.add_sliding_window(WINDOW)
    if kind == "mamba":
        writer.add_ssm_conv_kernel(KERNEL)
        writer.add_ssm_inner_size(INNER)
        writer.add_ssm_state_size(STATE)
        writer.add_ssm_time_step_rank(RANK)
    size = _vocabulary(writer)
    random = np.random.default_rng(3)
    for name, shape in _tensors(kind, size).items():
        one = "norm.weight" in name
        values = np.ones(shape) if one else random.normal(0, 0.3, shape)
        writer.add_tensor(name, (-np.abs(values) if name.endswith("ssm_a") else values).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary(writer: gguf.GGUFWriter) -> int:
    """Sentencepiece that puts a space before a text, as Llama 2 and Mistral have it."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    kinds[0], kinds[1], kinds[2] = gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL
    kinds[3:259] = [gguf.TokenType.BYTE] * 256
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(True)
    return len(tokens)


def _tensors(kind: str, size: int) -> Shapes:
    shapes: Shapes = {"token_embd.weight": (size, WIDTH)}
    if kind == "bert":
        shapes |= {"position_embd.weight": (CONTEXT, WIDTH), "token_types.weight": (2, WIDTH)}
        shapes |= _with_bias("token_embd_norm", (WIDTH,))
    else:
        shapes |= {"output_norm.weight": (WIDTH,)}
    if kind in ("llama", "pooled"):
        shapes |= {"output.weight": (size, WIDTH)}
    for layer in range(LAYERS):
        parts = _MAMBA if kind == "mamba" else _BERT if kind == "bert" else _LLAMA
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in parts.items()}
        if kind == "gemma2":
            for name in ("post_attention_norm", "post_ffw_norm"):
                shapes[f"blk.{layer}.{name}.weight"] = (WIDTH,)
    return shapes


def _with_bias(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


_LLAMA: Shapes = {
    **{f"{name}.weight": (WIDTH, WIDTH) for name in ("attn_q", "attn_k", "attn_v", "attn_output")},
    **{f"{name}.weight": (HIDDEN, WIDTH) for name in ("ffn_gate", "ffn_up")},
    **{f"{name}.weight": (WIDTH,) for name in ("attn_norm", "ffn_norm")},
    "ffn_down.weight": (WIDTH, HIDDEN),
}
_MAMBA: Shapes = {
    "attn_norm.weight": (WIDTH,),
    "ssm_in.weight": (2 * INNER, WIDTH),
    "ssm_conv1d.weight": (INNER, KERNEL),
    "ssm_conv1d.bias": (INNER,),
    "ssm_x.weight": (RANK + 2 * STATE, INNER),
    "ssm_dt.weight": (INNER, RANK),
    "ssm_dt.bias": (INNER,),
    "ssm_a": (INNER, STATE),
    "ssm_d": (INNER,),
    "ssm_out.weight": (WIDTH, INNER),
}
_BERT: Shapes = {
    **{
        key: shape
        for name in ("attn_q", "attn_k", "attn_v", "attn_output")
        for key, shape in _with_bias(name, (WIDTH, WIDTH)).items()
    },
    **_with_bias("attn_output_norm", (WIDTH,)),
    **_with_bias("ffn_up", (HIDDEN, WIDTH)),
    **_with_bias("ffn_down", (WIDTH, HIDDEN)),
    **_with_bias("layer_output_norm", (WIDTH,)),
}
