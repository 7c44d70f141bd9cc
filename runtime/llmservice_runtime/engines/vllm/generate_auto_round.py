"""Which checkpoints of AutoRound vLLM reads, asked of its own code on GPUs and CPUs, and compared with `auto_round`."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

from llmservice_runtime.engines.vllm import auto_round
from llmservice_runtime.engines.vllm.compressed_experts import CPU
from llmservice_runtime.engines.vllm.generate_experts import CAPABILITIES, on
from llmservice_runtime.formats import schemes
from llmservice_runtime.formats.fused import FUSED
from llmservice_runtime.formats.rounded import rounded

SAID = (
    "model.layers.3.self_attn.q_proj", "model.layers.3.self_attn.k_proj", "model.layers.3.self_attn.v_proj",
    "model.layers.3.self_attn.qkv_proj", "self_attn.qkv_proj", "q_proj", ".*q_proj", r".*self_attn\.[qk]_proj",
    ".*self_attn.*", r"layers\.\d+\.self_attn", r"layers\.4\.", "qkv", ".*proj$",
    "model.layers.3.mlp.experts", "mlp.experts", "model.layers.3.mlp.experts.0.up_proj", r".*experts\.\d+\..*",
    r".*mlp\.experts.*", ".*up_proj", ".*mlp.*",
)  # fmt: skip
"""Keys of `extra_config` that vLLM is asked with, up to three at a time."""


def auto_round_digest() -> dict[str, Any]:
    """How many combinations were asked on CPUs and on GPUs, and a hash of the answers, which are those of
    `auto_round.takes`. RuntimeError where they differ."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.quantization.inc.schemes import inc_wna16_scheme

    found = hashlib.sha256()
    differ, asked = [], 0
    current = VllmConfig()
    current.model_config = _of_bfloat16()
    with (
        set_current_vllm_config(current),
        mock.patch.object(inc_wna16_scheme, "_build_humming_linear_method", lambda config: config),
    ):
        for capability in (CPU, *CAPABILITIES):
            cpu = capability == CPU
            with on(capability):
                for word in auto_round.everything():
                    answer, ours = _takes(word), auto_round.takes(word, cpu)
                    if answer != ours:
                        differ.append(f"{capability} {word}: {answer} and not {ours}")
                    if cpu or capability == CAPABILITIES[0]:
                        found.update(f"{answer}\n".encode())
                        asked += 1
        with on(CAPABILITIES[-1]):
            differ += _acts()
        differ += _layers()
    if differ:
        raise RuntimeError(f"{len(differ)} checkpoints of AutoRound are read otherwise:\n" + "\n".join(differ[:40]))
    return {"asked": asked, "digest": found.hexdigest()}


def _of_bfloat16() -> Any:
    import torch

    return SimpleNamespace(dtype=torch.bfloat16)


def _acts() -> Iterator[str]:
    """Where vLLM judges what goes into layers otherwise than `auto_round.refused_act`."""
    for word in ("fp 8 128x128 none auto", "mx_fp 8 32 none auto", "mx_fp 4 32 none auto", "int 4 128 none auto"):
        expected = auto_round.expected_acts(word)
        for key in schemes.ACTS:
            for value in (16, 8, 32, 128, "fp", "mx_fp", "int", True, False, "static", "dynamic", "e5m2", "e4m3", None):
                answer = _takes(word, {key: value})
                ours = not auto_round.refused_act(word, [f"{key} {value}"])
                if answer != ours:
                    yield f"{word} with {key} {value!r}: {answer} and not {ours} ({expected})"


def _layers() -> Iterator[str]:
    """What vLLM finds of single layers otherwise than `formats.rounded`: whether it refuses q, k and v, and what it
    takes all experts to be."""
    import torch
    from vllm.model_executor.layers.fused_moe import RoutedExperts
    from vllm.model_executor.layers.linear import QKVParallelLinear
    from vllm.model_executor.layers.quantization.inc.inc import INCConfig

    raw: dict[str, Any] = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}
    for names in itertools.chain.from_iterable(itertools.combinations(SAID, count) for count in (1, 2, 3)):
        raw["extra_config"] = {name: {"bits": 8 - at} for at, name in enumerate(names)}
        ours, config = rounded(raw, 0), INCConfig.from_config(raw)
        config.packed_modules_mapping = {"qkv_proj": list(FUSED["qkv_proj"])}
        for kind, end in ((QKVParallelLinear, "self_attn.qkv_proj"), (RoutedExperts, "mlp.experts")):
            layer, place = object.__new__(kind), f"model.layers.3.{end}"
            torch.nn.Module.__init__(layer)
            parts = [place.replace("qkv_proj", part) for part in FUSED["qkv_proj"]]
            try:
                bits = config.config_parser.resolve(layer, place).bits
            except ValueError:
                bits = 0
            if kind is RoutedExperts:  # its only expert's only layer is quantized as found, or the answer is another
                parts = [f"{place}.0.up_proj"]
                bits = bits if config.config_parser.resolve(_linear(), parts[0]).bits == bits else 0
            if ours is None or ours.differs(place, parts) is not (bits == 0):
                yield f"{place} with {raw['extra_config']}: vLLM takes {bits} bits"


def _linear() -> Any:
    import torch
    from vllm.model_executor.layers.linear import ReplicatedLinear

    layer = object.__new__(ReplicatedLinear)
    torch.nn.Module.__init__(layer)
    return layer


def _takes(word: str, more: Mapping[str, Any] | None = None) -> bool:
    from vllm.model_executor.layers.quantization.inc.inc import INCConfig

    kind, bits, group, *rest = word.split()
    sides = [int(side) for side in group.split("x")]
    raw = {
        "quant_method": "auto-round", "data_type": kind, "bits": int(bits), "sym": "asymmetric" not in rest,
        "group_size": sides if "x" in group else sides[0], "backend": rest[-1],
    }  # fmt: skip
    if rest[-2] != auto_round.UNSTATED:
        raw["packing_format"] = rest[-2]
    raw |= more or {}
    try:
        return INCConfig.from_config(raw).get_quant_method(_linear(), "x") is not None
    except (NotImplementedError, ValueError, AssertionError):
        return False
