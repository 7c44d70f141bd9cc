"""GGUF files made by the gguf library, and the path on which tests find `tests.formats.model_samples`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if (ROOT := str(Path(__file__).parents[2])) not in sys.path:
    sys.path.append(ROOT)

GgufMaker = Callable[..., bytes]


@pytest.fixture
def make_gguf(tmp_path: Path) -> GgufMaker:
    """Bytes of a GGUF written by the gguf library: `values` are raw keys, `types` the tensor types of each block."""
    import gguf

    def make(
        architecture: str = "llama",
        values: Mapping[str, Any] | None = None,
        types: Sequence[str] = ("Q4_K", "Q6_K"),
        tokens: int = 8,
        file_type: int | None = 15,
        template: bool = True,
        kind: str | None = "model",
    ) -> bytes:
        path = tmp_path / "made.gguf"
        writer = gguf.GGUFWriter(str(path), architecture)
        if kind:
            writer.add_type(kind)
        if file_type is not None:
            writer.add_file_type(file_type)
        shape: dict[str, Any] = {"block_count": 2, "embedding_length": 256, "context_length": 4096}
        shape |= {"attention.head_count": 4, "attention.head_count_kv": 2, **(values or {})}
        for key, value in shape.items():
            full = key if "general." in key or "split." in key else f"{architecture}.{key}"
            if isinstance(value, bool):
                writer.add_bool(full, value)
            elif isinstance(value, int):
                writer.add_uint32(full, value)
            elif isinstance(value, str):
                writer.add_string(full, value)
            else:
                writer.add_array(full, list(value))
        if tokens:
            writer.add_tokenizer_model("gpt2")
            writer.add_token_list([f"t{n}" for n in range(tokens)])
        if template:
            writer.add_chat_template("{{ messages }}")
        for block in range(2 if types else 0):
            for number, name in enumerate(types):
                kind_of = gguf.GGMLQuantizationType[name]
                block_size, type_size = gguf.GGML_QUANT_SIZES[kind_of]
                if name in {"F32", "F16"}:
                    data = np.zeros((4, 256), np.float32 if name == "F32" else np.float16)
                    writer.add_tensor(f"blk.{block}.t{number}.weight", data)
                else:
                    data = np.zeros((4, 256 // block_size * type_size), np.uint8)
                    writer.add_tensor(f"blk.{block}.t{number}.weight", data, raw_dtype=kind_of)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()

    return make
