"""Models in memory: the headers of real files, and byte-exact ones built here."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmservice_runtime.sources.files import FileEntry

FIXTURES = Path(__file__).parent / "fixtures"


class MemoryFiles:
    """ModelFiles over bytes; a file may be larger than the bytes kept of it, what follows reads as zeros."""

    revision = "0123abcd"

    def __init__(
        self,
        contents: Mapping[str, bytes | tuple[bytes, int]],
        uri: str = "hf://acme/model",
        folder: Path | None = None,
    ) -> None:
        self.uri = uri
        self.folder = folder
        self.bytes_read = 0
        self.asked: set[str] = set()
        self._files = {
            path: value if isinstance(value, tuple) else (value, len(value)) for path, value in contents.items()
        }

    def entries(self) -> Sequence[FileEntry]:
        return [FileEntry(path, size) for path, (_, size) in sorted(self._files.items())]

    def read(self, path: str, start: int, length: int) -> bytes:
        head, size = self._files[path]
        end = min(size, start + length)
        self.asked.add(path)
        self.bytes_read += max(0, end - start)
        assert end - start <= 64 << 20, f"reads {end - start} bytes of {path} at once"
        return head[start:end].ljust(max(0, end - start), b"\0")


def load_fixture(name: str) -> dict[str, bytes | tuple[bytes, int]]:
    """Files of one fixture: bytes, or (header, size)."""
    files: dict[str, bytes | tuple[bytes, int]] = {}
    for path, entry in json.loads((FIXTURES / f"{name}.json").read_text()).items():
        files[path] = (base64.b64decode(entry["head"]), entry["size"]) if "head" in entry else entry["text"].encode()
    return files


def safetensors_bytes(
    tensors: Mapping[str, tuple[str, Sequence[int]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, int]:
    """Header and size of a safetensors file with these (dtype, shape) tensors."""
    width = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "U8": 1, "I8": 1, "F8_E4M3": 1, "I16": 2, "I64": 8}
    at, header = 0, {"__metadata__": dict(metadata)} if metadata else {}
    for name, (dtype, shape) in tensors.items():
        size = int(np.prod(shape)) * width[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}  # type: ignore[dict-item]
        at += size
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw, 8 + len(raw) + at


LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def hf(
    tensors: Mapping[str, tuple[str, Sequence[int]]] | None = None,
    quantization_config: Any = None,
    side: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    uri: str = "hf://acme/model",
    **config: Any,
) -> MemoryFiles:
    """A tiny checkpoint with these tensors, configuration and further JSON files."""
    root = {**LLAMA, **config}
    if quantization_config is not None:
        root["quantization_config"] = quantization_config
    plain = {f"model.layers.{i}.self_attn.q_proj.weight": ("BF16", (64, 64)) for i in range(2)}
    files: dict[str, bytes | tuple[bytes, int]] = {
        "config.json": json.dumps(root).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": safetensors_bytes(tensors or plain, metadata),
    }
    files |= {path: json.dumps(value).encode() for path, value in (side or {}).items()}
    return MemoryFiles(files, uri)
