"""Derives the demo model's GGUF files (F16, Q8_0, Q4_K_M) from its safetensors; the same bytes on every run.

    python runtime/demo/make_gguf.py            # all three; prints their paths

Needs numpy, gguf and llama_cpp, as the development environment has them. Files go to
~/.cache/llmservice/demo/<content hash>/ unless --out names a folder.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from llmservice_runtime.contract.cache import cache_dir

MODEL = Path(__file__).parent / "model"
SOURCES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
KINDS = ("F16", "Q8_0", "Q4_K_M")

_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}


def content_hash(model: Path = MODEL) -> str:
    """16 hex digits over everything that the GGUF files are made from, this script included."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name in SOURCES:
        digest.update((model / name).read_bytes())
    return digest.hexdigest()[:16]


def default_folder(model: Path = MODEL) -> Path:
    """Where derived files are kept in the cache of this user: one folder per content."""
    return cache_dir() / "demo" / content_hash(model)


def derive(kind: str, folder: Path | None = None, model: Path = MODEL) -> Path:
    """The path of demo-`kind`.gguf in `folder` (absolute), made when it is not there yet; published by a rename."""
    folder = (folder or default_folder(model)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"demo-{kind}.gguf"
    if target.exists():
        return target
    partial = folder / f".{target.name}.{os.getpid()}"
    try:
        if kind == "F16":
            _write_f16(model, partial)
        else:
            _quantize(derive("F16", folder, model), partial, kind)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _tensors(path: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Name and float32 values of every tensor of a bfloat16 safetensors file, in the order of the file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        bits = np.frombuffer(data[start + begin : start + end], dtype="<u2").astype(np.uint32) << 16
        yield name, bits.view(np.float32).reshape(entry["shape"])


def _gguf_name(name: str) -> str:
    if not name.startswith("model.layers."):
        return _NAMES[name]
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{_NAMES[rest]}"


def _rotary_order(weight: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows of a query or key matrix from halves (Transformers) to neighbouring pairs (llama.cpp's `llama`)."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_f16(model: Path, target: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "llama")
    _write_settings(writer, config)
    _write_tokenizer(writer, model)
    for name, weight in _tensors(model / "model.safetensors"):
        if name.endswith("q_proj.weight"):
            weight = _rotary_order(weight, config["num_attention_heads"])
        elif name.endswith("k_proj.weight"):
            weight = _rotary_order(weight, config["num_key_value_heads"])
        stored = weight.astype(np.float16) if weight.ndim == 2 else weight
        if not np.isfinite(stored).all():
            raise ValueError(f"{name} has values beyond float16")
        writer.add_tensor(_gguf_name(name), np.ascontiguousarray(stored))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_settings(writer: Any, config: dict[str, Any]) -> None:
    writer.add_name("LLMService demo")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _write_tokenizer(writer: Any, model: Path) -> None:
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    added = {entry["id"]: entry for entry in tokenizer["added_tokens"]}
    by_id = {index: text for text, index in tokenizer["model"]["vocab"].items()}
    by_id |= {index: entry["content"] for index, entry in added.items()}
    tokens = [by_id[index] for index in range(len(by_id))]
    ids = {text: index for index, text in by_id.items()}
    types = [gguf.TokenType.CONTROL if index in added else gguf.TokenType.NORMAL for index in range(len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["model"]["merges"]]
    )
    writer.add_eos_token_id(ids[config["eos_token"]])
    writer.add_pad_token_id(ids[config["pad_token"]])
    writer.add_bos_token_id(ids[config["pad_token"]])  # never added; llama.cpp's own default is a letter's id
    writer.add_add_bos_token(False)
    writer.add_chat_template(config["chat_template"])


def _quantize(source: Path, target: Path, kind: str) -> None:
    """llama.cpp's own quantizer, on one thread."""
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = 1
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    result = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))
    llama_cpp.llama_log_set(llama_cpp.llama_log_callback(), ctypes.c_void_p(0))
    if result != 0:
        raise RuntimeError(f"llama.cpp could not quantize {source} to {kind} (code {result})")


def main() -> None:
    """Make the files and print their paths and sizes."""
    parser = argparse.ArgumentParser(description="Derive the demo model's GGUF files.")
    parser.add_argument("--kind", action="append", choices=KINDS, help="one kind; may be repeated (default: all)")
    parser.add_argument("--out", type=Path, help="folder of the files (default: the cache)")
    parser.add_argument("--model", type=Path, default=MODEL, help="folder of the safetensors (default: model/)")
    args = parser.parse_args()
    for kind in args.kind or KINDS:
        path = derive(kind, args.out, args.model)
        print(f"{path}  {math.ceil(path.stat().st_size / 1000)} kB")  # noqa: T201


if __name__ == "__main__":
    main()
