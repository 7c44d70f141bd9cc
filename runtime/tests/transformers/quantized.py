"""Quantized versions of a model, made by the libraries that Transformers reads them with; runs in its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

GROUP = 64


def torchao_int8(folder: Path) -> None:
    """Weights of linear layers in 8-bit integers, in place."""
    from torchao.quantization import Int8WeightOnlyConfig  # type: ignore[import-not-found]

    config = transformers.TorchAoConfig(Int8WeightOnlyConfig())
    _model(folder, quantization_config=config, device_map="cpu").save_pretrained(folder)


def compressed(folder: Path, *, bits: int, form: str, activations: bool = False) -> None:
    """compressed-tensors' form of the linear layers: 4 bits in groups or 8 by rows, in place. W8A8 with activations."""
    from compressed_tensors.compressors import ModelCompressor  # type: ignore[import-not-found]
    from compressed_tensors.quantization import (  # type: ignore[import-not-found]
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        QuantizationStatus,
        apply_quantization_config,
    )

    grouped = {"strategy": "group", "group_size": GROUP} if bits == 4 else {"strategy": "channel"}
    weights = QuantizationArgs(num_bits=bits, type="int", symmetric=True, **grouped)
    inputs = QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy="token", dynamic=True)
    scheme = QuantizationScheme(
        targets=["Linear"], weights=weights, input_activations=inputs if activations else None, format=form
    )
    config = QuantizationConfig(
        config_groups={"group_0": scheme},
        ignore=["lm_head"],
        format=form,
        quantization_status=QuantizationStatus.FROZEN,
    )
    model = _model(folder)
    apply_quantization_config(model, config)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            rows = module.weight.data.float().reshape(module.weight_scale.numel(), -1)
            scale = (rows.abs().amax(-1) / (2 ** (bits - 1) - 1)).clamp_min(1e-8)
            module.weight_scale.data.copy_(scale.reshape(module.weight_scale.shape))
    compressor = ModelCompressor(quantization_config=config)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)


def _model(folder: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **options)
