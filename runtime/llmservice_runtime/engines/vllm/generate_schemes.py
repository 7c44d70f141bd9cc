"""Which combinations of weights and activations vLLM has a scheme for: its own choice, asked with every one of them.

A combination counts when any completion of it (strategies, symmetry, sizes of groups) has a scheme. What a scheme then
asks of the device is no matter here.
"""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Iterator
from typing import Any

from llmservice_runtime.formats import schemes

BOTH = (False, True)


def quark_schemes() -> set[str]:
    """As `schemes.quark` words them."""
    from vllm.model_executor.layers.quantization.quark.quark import QuarkConfig

    config = object.__new__(QuarkConfig)
    config.pack_method = "reorder"
    kinds = ("int2", "int3", "int4", "uint4", "int8", "uint8", "fp8_e4m3", "fp8_e5m2", "fp6_e2m3", "fp6_e3m2", "fp4")
    places = [("per_tensor", None), ("per_channel", None), *(("per_group", size) for size in (16, 32, 64, 128))]
    weights = [
        {"dtype": kind, "qscheme": where, "group_size": size, "symmetric": symmetric, "scale_format": scale,
         "is_dynamic": False, **block}
        for kind, (where, size), symmetric, scale, block in itertools.product(
            kinds, [*places, ("per_block", None)], BOTH, ("e8m0", "float32"),
            ({}, {"block_size": [128, 128]}, {"block_size": [32, 32]}, {"block_size": [1, 32]}),
        )
        if bool(block) == (where == "per_block")
    ]  # fmt: skip
    inputs = [None, *(
        {"dtype": kind, "qscheme": where, "group_size": size, "symmetric": symmetric, "is_dynamic": moves,
         "scale_format": "e8m0"}
        for kind, (where, size), symmetric, moves in itertools.product(kinds, places, BOTH, BOTH)
    )]  # fmt: skip
    found: set[str] = set()
    for weight, given in itertools.product(weights, inputs):
        group = {"weight": weight, "input_tensors": given}
        word = schemes.quark(group)
        if word not in found and _has(config._get_scheme_cls_from_config, group):
            found.add(word)
    return found


def torchao_kinds() -> Iterator[str]:
    """Keys of `quant_type`, or the text that it is, with which vLLM asks torchao for the rest."""
    from vllm.model_executor.layers.quantization.torchao import TorchAOConfig

    asked = types.ModuleType("torchao.core.config")
    asked.config_from_dict = dict  # type: ignore[attr-defined]
    names = {
        "torchao": types.ModuleType("torchao"),
        "torchao.core": types.ModuleType("torchao.core"),
        asked.__name__: asked,
    }
    sys.modules.update(names)
    kinds: tuple[Any, ...] = ({"default": {}}, "int4_weight_only", {"default": {}, "other": {}})
    try:
        for kind in kinds:
            if _has(TorchAOConfig.from_config, {"quant_method": "torchao", "quant_type": kind}):
                yield ", ".join(kind) if isinstance(kind, dict) else kind
    finally:
        for name in names:
            del sys.modules[name]


def _has(ask: Any, *arguments: Any) -> bool:
    """Whether it answers; what goes wrong behind the choice (a device that is not here) is no refusal."""
    try:
        ask(*arguments)
    except (NotImplementedError, ValueError, AssertionError):
        return False
    except Exception:  # whatever a scheme asks of the device
        return True
    return True
