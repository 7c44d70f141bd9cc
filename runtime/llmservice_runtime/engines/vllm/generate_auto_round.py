"""Which checkpoints of AutoRound vLLM reads, asked of its own code on GPUs and CPUs, and compared with `auto_round`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

from llmservice_runtime.engines.vllm import auto_round
from llmservice_runtime.engines.vllm.compressed_experts import CPU
from llmservice_runtime.engines.vllm.generate_experts import CAPABILITIES, on
from llmservice_runtime.formats import schemes


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


def _takes(word: str, more: Mapping[str, Any] | None = None) -> bool:
    import torch
    from vllm.model_executor.layers.linear import ReplicatedLinear
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
    layer = object.__new__(ReplicatedLinear)
    torch.nn.Module.__init__(layer)
    try:
        return INCConfig.from_config(raw).get_quant_method(layer, "x") is not None
    except (NotImplementedError, ValueError, AssertionError):
        return False
