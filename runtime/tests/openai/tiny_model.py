"""A GGUF of a few hundred kB with random weights: every byte is a token, the chat template takes Hermes tools."""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, HIDDEN, CONTEXT = 64, 2, 2, 128, 2048
MARKERS = ["<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]


def write(path: Path, template: str) -> None:
    """Write the model; the same bytes every time."""
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_context_length, CONTEXT),
        (writer.add_embedding_length, WIDTH),
        (writer.add_block_count, LAYERS),
        (writer.add_feed_forward_length, HIDDEN),
        (writer.add_head_count, HEADS),
        (writer.add_head_count_kv, HEADS),
    ):
        add(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    size = _vocabulary(writer, template)
    random = np.random.default_rng(7)
    for name, shape in _tensors(size):
        one = name.endswith("norm.weight")
        values = np.ones(shape) if one else random.normal(0, 0.3, shape)
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary(writer: gguf.GGUFWriter, template: str) -> int:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *MARKERS, "▁", "the", "▁the"]
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    kinds[0], kinds[1], kinds[2] = gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL
    kinds[3:259] = [gguf.TokenType.BYTE] * 256
    kinds[259:261] = [gguf.TokenType.CONTROL] * 2
    kinds[261:263] = [gguf.TokenType.USER_DEFINED] * 2
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(False)
    # Published so by some: tools are taken by a template of their own.
    named = {"default": "{% set tools = none %}" + template, "tool_use": template}
    writer.add_chat_template([{"name": name, "template": text} for name, text in named.items()])
    return len(tokens)


def _tensors(size: int) -> list[tuple[str, tuple[int, ...]]]:
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (size, WIDTH)),
        ("output_norm.weight", (WIDTH,)),
        ("output.weight", (size, WIDTH)),
    ]
    for layer in range(LAYERS):
        shapes += [
            (f"blk.{layer}.{part}.weight", (WIDTH, WIDTH)) for part in ("attn_q", "attn_k", "attn_v", "attn_output")
        ]
        shapes += [(f"blk.{layer}.{part}.weight", (HIDDEN, WIDTH)) for part in ("ffn_gate", "ffn_up")]
        shapes += [(f"blk.{layer}.ffn_down.weight", (WIDTH, HIDDEN))]
        shapes += [(f"blk.{layer}.{part}.weight", (WIDTH,)) for part in ("attn_norm", "ffn_norm")]
    return shapes


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]).read_text())
