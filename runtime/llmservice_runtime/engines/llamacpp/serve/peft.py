"""What PEFT saves of a LoRA (adapter_config.json, adapter_model.safetensors), written as the GGUF that llama.cpp loads.

As llama.cpp's own convert_lora_to_gguf.py does it (conversion/*.py of the locked version), for architectures whose
tensors it only renames, but for the order of rows of queries and keys. A name that is wrong is refused when it is
loaded; a test holds the order against weights that were merged before.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.formats.lora import PeftConfig, part_of, read_config
from llmservice_runtime.formats.ranges import Fetch
from llmservice_runtime.formats.safetensors import read_header
from llmservice_runtime.formats.tensors import Tensor

Array = npt.NDArray[np.float32]

ALIGNMENT = 32
F32, WIDTH = 0, 4
"""The type of every matrix there: products of so few rows are fastest in 32 bits (CPU), and all are exact."""
_STRING, _FLOAT = 8, 6
_USUAL = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_FUSED = {
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NAMES = {
    **dict.fromkeys(("llama", "granite", "smollm3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"), _USUAL),
    "phi3": _FUSED,
}
"""Architecture -> PEFT's names within a layer -> llama.cpp's."""
REORDERED = frozenset({"llama", "granite", "smollm3"})
"""Whose rotary embedding turns neighbours, where Transformers' turns halves: rows of queries and keys change places."""
_LAYER = re.compile(r"(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Base:
    """The model that an adapter is for; heads are 0 where layers differ."""

    architecture: str
    heads: int
    kv_heads: int


def as_gguf(folder: Path, base: Base) -> Iterator[bytes]:
    """The GGUF, piece by piece: no more than one matrix is in memory. UserError when it can't be one for this model."""
    config = read_config((folder / "adapter_config.json").read_bytes())
    if base.architecture not in NAMES:
        raise _refused(
            f"PEFT's adapters of the architecture {base.architecture} are not converted here",
            "Use the adapter as a GGUF (llama.cpp's convert_lora_to_gguf.py makes one), or serve with another engine.",
        )
    path = folder / config.weights
    with path.open("rb") as file:

        def fetch(start: int, length: int) -> bytes:
            file.seek(start)
            return file.read(length)

        modules = _modules(fetch, path)
        matrices = [matrix for name, parts in modules.items() for matrix in _pair(name, parts, config, base, fetch)]
        yield from _written(base.architecture, config.alpha, matrices)


class _Part(NamedTuple):
    """Where one of a module's two matrices is."""

    tensor: Tensor
    start: int


class _Matrix(NamedTuple):
    """One of the GGUF's."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Array]

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * WIDTH


def _modules(fetch: Fetch, path: Path) -> dict[str, dict[str, _Part]]:
    """PEFT's names of layers -> `A` (rank, in) and `B` (out, rank)."""
    size = path.stat().st_size
    header = read_header(fetch, size, path.name)
    start = size - sum(tensor.nbytes for tensor in header.tensors)
    modules: dict[str, dict[str, _Part]] = {}
    for tensor in header.tensors:
        name, part = part_of(tensor.name)
        modules.setdefault(name, {})[part] = _Part(tensor, start)
        start += tensor.nbytes
    return modules


def _floats(data: bytes, dtype: str) -> Array:
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
    if dtype not in kinds:
        raise _refused(f"its weights are {dtype}", "Save it in float16, bfloat16 or float32.")
    return np.frombuffer(data, kinds[dtype]).astype(np.float32)


def _pair(module: str, parts: Mapping[str, _Part], config: PeftConfig, base: Base, fetch: Fetch) -> Iterator[_Matrix]:
    """Both matrices under llama.cpp's names. It scales by alpha / rank; what PEFT scales otherwise is in the second."""
    if len(parts) != 2:
        raise _refused(f"{module} has one of its two matrices only", "Save the adapter again.")
    name, rank = _gguf_name(module, base), parts["A"].tensor.shape[0]
    factor = config.scale(module, rank) / (config.alpha / rank if config.alpha else 1.0)
    reordered = {"attn_q.weight": base.heads, "attn_k.weight": base.kv_heads} if base.architecture in REORDERED else {}
    heads = reordered.get(name.split(".", 2)[-1])

    def values(part: str) -> Array:
        tensor, start = parts[part]
        return _floats(fetch(start, tensor.nbytes), tensor.dtype).reshape(tensor.shape)

    def second() -> Array:
        b = values("B")
        b = b if heads is None else _rotary_order(b, heads, module)
        return b * np.float32(factor) if factor != 1.0 else b

    yield _Matrix(f"{name}.lora_a", parts["A"].tensor.shape, lambda: values("A"))
    yield _Matrix(f"{name}.lora_b", parts["B"].tensor.shape, second)


def _gguf_name(module: str, base: Base) -> str:
    if module.removeprefix("model.") == "lm_head":
        return "output.weight"
    found = _LAYER.fullmatch(module)
    name = NAMES[base.architecture].get(found[2]) if found else None
    if found is None or name is None:
        raise _refused(
            f"it changes {module}, which is not converted for the architecture {base.architecture}",
            "Train it on the projections of attention and feed-forward, or serve with another engine.",
        )
    return f"blk.{found[1]}.{name}.weight"


def _rotary_order(rows: Array, heads: int, name: str) -> Array:
    """Rows of a query or key matrix from halves (Transformers) to neighbouring pairs (llama.cpp)."""
    out, rank = rows.shape
    if not heads or out % (2 * heads):
        raise _refused(f"{name} has {out} rows, and the model {heads} heads", "Use an adapter of this very model.")
    return rows.reshape(heads, 2, out // heads // 2, rank).swapaxes(1, 2).reshape(out, rank)


def _written(architecture: str, alpha: float, matrices: list[_Matrix]) -> Iterator[bytes]:
    words = {"general.architecture": architecture, "general.type": "adapter", "adapter.type": "lora"}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(matrices), len(words) + 1)
    head += b"".join(_text(key) + struct.pack("<I", _STRING) + _text(word) for key, word in words.items())
    head += _text("adapter.lora.alpha") + struct.pack("<If", _FLOAT, alpha)
    offset = 0
    for matrix in matrices:
        shape = matrix.shape[::-1]
        head += _text(matrix.name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, F32, offset)
        offset += _padded(matrix.size)
    yield head + b"\0" * (_padded(len(head)) - len(head))
    for matrix in matrices:
        yield np.ascontiguousarray(matrix.read(), np.float32).tobytes()
        yield b"\0" * (_padded(matrix.size) - matrix.size)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _refused(reason: str, remedy: str) -> UserError:
    return UserError(f"The adapter can't be used with llama.cpp: {reason}.", remedy, FailureClass.UNSUPPORTED_FORMAT)
