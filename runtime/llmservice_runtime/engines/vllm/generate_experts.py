"""What vLLM chooses for experts and weights of few bits, asked of its own code as on NVIDIA GPUs and CPUs with AMX.

The choice goes down to kernels, which look at the platform; it is stood in for. So is humming, a package of kernels
that the lock for CUDA holds and an environment for CPUs does not.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from llmservice_runtime.engines.vllm import compressed_experts
from llmservice_runtime.engines.vllm.compressed import HOPPER, everything

CAPABILITIES = (75, 80, 89, 90, 100, 120)
DIFFERENT = (compressed_experts.CPU, 80, HOPPER)
"""Those whose answers are kept: others answer as SM 8.0."""
EXPERTS = {"num_experts": 128, "num_local_experts": 128, "num_logical_experts": 128, "experts_per_token": 8,
           "hidden_dim": 2048, "intermediate_size": 768, "intermediate_size_per_partition": 768}  # fmt: skip


def experts_digest(read: Callable[[str], Any]) -> dict[str, Any]:
    """How many combinations of `DIFFERENT` were asked of compressed-tensors' choice for experts, and the answers' hash.

    All of them, and those of `CAPABILITIES`, are those of `compressed_experts.method`: RuntimeError where they differ.
    `read` makes a part of a group of its words.
    """
    found = hashlib.sha256()
    differ, asked = [], 0
    for capability in (compressed_experts.CPU, *CAPABILITIES):
        with on(capability), _chooser(read) as choose:
            for word in words():
                answer, ours = choose(word), compressed_experts.method(word, capability)
                if answer != ours:
                    differ.append(f"{capability} {word}: {answer} and not {ours}")
                if capability in DIFFERENT:
                    found.update(f"{answer}\n".encode())
                    asked += 1
    if differ:
        raise RuntimeError(f"{len(differ)} methods for experts are others in vLLM:\n" + "\n".join(differ[:40]))
    return {"asked": asked, "digest": found.hexdigest()}


def words() -> Iterator[str]:
    """Experts have nothing that goes out of them quantized."""
    return (word for word in everything() if word.endswith(" / none"))


def check_mixed_kernels() -> None:
    """RuntimeError where a weight-only layer, which has a scheme, has no kernel on an NVIDIA GPU: rules rely on it."""
    import torch
    from vllm.model_executor.kernels import linear
    from vllm.model_executor.layers.quantization.compressed_tensors.schemes import compressed_tensors_wNa16 as weights

    types = {False: weights.WNA16_SUPPORTED_TYPES_MAP, True: weights.WNA16_ZP_SUPPORTED_TYPES_MAP}
    for capability in CAPABILITIES:
        with on(capability):
            for zeros, size, width in itertools.product((False, True), (-1, 16, 32, 64, 128, 256), (96, 4096)):
                for kind in types[zeros].values():
                    shape = (width, width)
                    layer = linear.MPLinearLayerConfig(shape, shape, kind, torch.bfloat16, size, zeros)
                    linear.choose_mp_linear_kernel(layer, compute_capability=capability)  # raises where there is none


@contextlib.contextmanager
def on(capability: int) -> Iterator[None]:
    """vLLM believes to be on such a GPU, or on an x86 CPU with AMX."""
    import torch
    from vllm.platforms import CpuArchEnum, current_platform

    gpu = capability != compressed_experts.CPU
    told: dict[str, Any] = {"get_cpu_architecture": lambda *of: CpuArchEnum.X86}
    with contextlib.ExitStack() as stood_in:
        stood_in.enter_context(mock.patch.object(torch.cpu, "_is_amx_tile_supported", lambda: True))
        if gpu:
            told |= _as_gpu(capability)
            stood_in.enter_context(_humming())
        for name, answer in told.items():
            stood_in.enter_context(mock.patch.object(type(current_platform), name, answer))
        yield


def _as_gpu(capability: int) -> dict[str, Any]:
    from vllm.platforms.interface import DeviceCapability, PlatformEnum

    mine = DeviceCapability(capability // 10, capability % 10)

    def number(asked: Any) -> int:
        return int(asked[0] * 10 + asked[1] if isinstance(asked, tuple) else asked)

    return {
        "_enum": PlatformEnum.CUDA,
        "is_cuda": lambda *of: True, "is_cuda_alike": lambda *of: True, "is_cpu": lambda *of: False,
        "get_device_capability": lambda *of, **named: mine,
        "is_device_capability": lambda self, asked, device_id=0: number(asked) == capability,
        "has_device_capability": lambda self, asked, device_id=0: capability >= number(asked),
        "is_device_capability_family": lambda self, asked, device_id=0: number(asked) // 10 == capability // 10,
        "supports_fp8": lambda *of: capability >= 89,
    }  # fmt: skip


@contextlib.contextmanager
def _humming() -> Iterator[None]:
    from vllm.model_executor.kernels.linear.mixed_precision import humming as linear
    from vllm.model_executor.layers.fused_moe.experts import fused_humming_moe as experts
    from vllm.utils import humming

    names = ("GROUPED_CONTIGUOUS", "GROUPED_MASKED", "INDEXED")
    kinds = SimpleNamespace(**{name: SimpleNamespace(value=name.lower()) for name in names})
    with (
        mock.patch.object(linear, "has_humming", lambda: True),
        mock.patch.object(experts, "has_humming", lambda: True),
        mock.patch.dict(vars(humming), {"GemmType": kinds}),
    ):
        yield


@contextlib.contextmanager
def _chooser(read: Callable[[str], Any]) -> Iterator[Callable[[str], str | None]]:
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.quantization.compressed_tensors import compressed_tensors as theirs
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
        CompressedTensorsMoEMethod,
    )

    kind, moe = theirs.CompressedTensorsConfig, _mixture()
    layer = SimpleNamespace(
        ckpt_gate_proj_name="gate", ckpt_up_proj_name="up", ckpt_down_proj_name="down", moe_config=moe
    )
    read = functools.cache(read)

    def choose(word: str) -> str | None:
        layout, _, rest = word.partition(": ")
        parts = dict(
            zip(("weights", "input_activations", "output_activations"), map(read, rest.split(" / ")), strict=True)
        )
        if any(isinstance(part, Exception) for part in parts.values()):
            return None
        group = {"targets": ["Linear"], "format": None if layout == "None" else layout, **parts}
        config = object.__new__(kind)
        try:
            told = kind._quantization_scheme_map_from_config({"config_groups": {"g": group}})["Linear"]
            with mock.patch.object(kind, "get_scheme_dict", lambda *of: told):
                config.target_scheme_map = {}
                return type(CompressedTensorsMoEMethod.get_moe_method(config, layer, "x")).__name__
        except (NotImplementedError, RuntimeError, ValueError, AssertionError):
            return None
        except AttributeError as error:
            if "'NoneType' object has no attribute 'num_bits'" not in str(error):  # of inputs that are None
                raise
            return None

    read_already = mock.patch.object(theirs.QuantizationArgs, "model_validate", lambda one: one)
    with read_already, set_current_vllm_config(VllmConfig()):
        yield choose


def _mixture() -> Any:
    import torch
    from vllm.model_executor.layers.fused_moe import config
    from vllm.model_executor.layers.fused_moe.activation import MoEActivation

    alone = config.FusedMoEParallelConfig(
        tp_size=1, pcp_size=1, dp_size=1, ep_size=1, tp_rank=0, pcp_rank=0, dp_rank=0, ep_rank=0, sp_size=1,
        use_ep=False, all2all_backend="allgather_reducescatter", enable_eplb=False,
    )  # fmt: skip
    return config.FusedMoEConfig(
        **EXPERTS, activation=MoEActivation.SILU, device="cpu", routing_method=config.RoutingMethodType.Renormalize,
        moe_parallel_config=alone, in_dtype=torch.bfloat16,
    )  # fmt: skip
