"""Writes LoRA adapters of the demo model as PEFT saves them; `dice` makes ones that are good for nothing but tests.

Needs numpy. The two in `adapters/` were made by train_adapter.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MODEL = Path(__file__).parent / "model"
ADAPTERS = Path(__file__).parent / "adapters"
ALPHA = 16

Matrices = Mapping[str, npt.NDArray[np.float32]]
"""PEFT's name of a tensor -> its values."""


def write_adapter(folder: Path, matrices: Matrices, rank: int, targets: Sequence[str], **config: Any) -> Path:
    """Write an adapter into `folder`, in 16 bits; `config`: other fields of adapter_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "llmservice/demo",
        "r": rank,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "target_modules": sorted(targets),
    }
    (folder / "adapter_config.json").write_text(json.dumps(fields | config, indent=2) + "\n")
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    pieces, end = [], 0
    for name, values in matrices.items():
        piece = np.ascontiguousarray(values, np.float16).tobytes()
        header[name] = {"dtype": "F16", "shape": list(values.shape), "data_offsets": [end, end + len(piece)]}
        pieces.append(piece)
        end += len(piece)
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(pieces))
    return folder


def dice(
    folder: Path,
    *,
    rank: int = 8,
    seed: int = 1,
    strength: float = 0.1,
    hidden: int = 0,
    sizes: Mapping[str, int] | None = None,
    **config: Any,
) -> Path:
    """An adapter of random numbers on every projection, for the demo model; `sizes`: of another Llama, as its
    config.json has them; `hidden`: another width alone."""
    sizes = sizes or json.loads((MODEL / "config.json").read_text())
    width, wide = hidden or sizes["hidden_size"], sizes["intermediate_size"]
    heads, kv = (sizes["head_dim"] * sizes[f"num_{kind}_heads"] for kind in ("attention", "key_value"))
    shapes = {
        "self_attn.q_proj": (width, heads),
        "self_attn.k_proj": (width, kv),
        "self_attn.v_proj": (width, kv),
        "self_attn.o_proj": (heads, width),
        "mlp.gate_proj": (width, wide),
        "mlp.up_proj": (width, wide),
        "mlp.down_proj": (wide, width),
    }
    numbers, matrices = np.random.default_rng(seed), {}
    for layer in range(sizes["num_hidden_layers"]):
        for target, (inputs, outputs) in shapes.items():
            name = f"base_model.model.model.layers.{layer}.{target}"
            matrices[f"{name}.lora_A.weight"] = numbers.standard_normal((rank, inputs), np.float32) / inputs**0.5
            b = numbers.standard_normal((outputs, rank), np.float32)
            matrices[f"{name}.lora_B.weight"] = b * strength * rank**0.5 / ALPHA
    return write_adapter(folder, matrices, rank, [target.rpartition(".")[2] for target in shapes], **config)
