"""Weights that are made smaller while they are loaded: `engine.loadQuantization` in Transformers' words."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass


def load_options(wanted: str, config: Any) -> dict[str, Any]:
    """Arguments of `from_pretrained`. UserError when the checkpoint is quantized already."""
    if not wanted:
        return {}
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(
            f"The weights are quantized already; they can't be made {wanted} while they are loaded.",
            "Leave loadQuantization out, or use the model's unquantized version.",
            FailureClass.BAD_ARGUMENT,
        )
    if wanted == "FP8" and not torch.cuda.is_available():
        raise UserError(
            "Weights are made FP8 on a GPU only, and there is none here.",
            "Use BitsAndBytesInt8 or BitsAndBytesNF4, or leave loadQuantization out.",
            FailureClass.BAD_ARGUMENT,
        )
    return {"quantization_config": _MADE[wanted]()}


def _bnb_int8() -> Any:
    return transformers.BitsAndBytesConfig(load_in_8bit=True)


def _bnb_nf4() -> Any:
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )


def _fp8() -> Any:
    return transformers.FineGrainedFP8Config()


_MADE = {"BitsAndBytesInt8": _bnb_int8, "BitsAndBytesNF4": _bnb_nf4, "FP8": _fp8}
