"""When Hugging Face Transformers runs a model (transformers 5.23)."""

from __future__ import annotations

from llmservice_runtime.engines.base.case import Case, Rule, is_gguf
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.machine.machine import Device

KERNELS = {
    "gptq": "gptqmodel and optimum", "awq": "gptqmodel", "bitsandbytes": "bitsandbytes", "fbgemm-fp8": "fbgemm-gpu",
    "fp-quant": "fp_quant", "aqlm": "aqlm", "hqq": "hqq", "eetq": "eetq", "higgs": "flute", "quanto": "optimum-quanto",
    "spqr": "spqr_quant", "vptq": "vptq", "torchao": "torchao", "quark": "amd-quark", "auto-round": "auto-round",
    "inc": "auto-round", "compressed-tensors": "compressed-tensors", "sinq": "sinq",
}  # fmt: skip
"""Quantization methods and the package each needs in the engine's environment."""

BUILT_IN = frozenset(
    {"", "fp8", "mxfp4", "modelopt", "modelopt-fp4", "mxfp8", "bitnet", "fouroversix", "metal", "gemma"}
)
"""Methods that need no package."""

GPU_ONLY = frozenset({"fp8", "eetq", "higgs", "spqr", "vptq", "fbgemm-fp8", "fp-quant", "modelopt", "modelopt-fp4"})
"""Methods whose kernels are written for GPUs."""


def needs_gguf_engine(case: Case) -> str | None:
    """Transformers loads GGUF by unpacking all of it: several times the memory for no gain."""
    if is_gguf(case):
        return "Transformers would unpack the whole GGUF to 16 bits in memory; llama.cpp runs it as it is."
    return None


def mistral_format(case: Case) -> str | None:
    """params.json + consolidated.safetensors is Mistral's own layout."""
    if case.facts.format is ModelFormat.MISTRAL:
        return "the files are in Mistral's own layout (params.json), which Transformers does not read."
    return None


def unknown_method(case: Case) -> str | None:
    """Methods that Transformers has no quantizer for."""
    if case.method not in KERNELS and case.method not in BUILT_IN:
        return f"Transformers has no loader for {case.method} weights."
    return None


def gpu_only_method(case: Case) -> str | None:
    """Methods that have no CPU kernels."""
    if case.device is Device.CPU and case.method in GPU_ONLY:
        return f"Transformers runs {case.method} weights on GPUs only."
    return None


def old_cpu(case: Case) -> str | None:
    """bitsandbytes needs AVX2 on x86."""
    x86 = case.device is Device.CPU and case.machine.architecture == "x86_64"
    if x86 and case.method == "bitsandbytes" and "avx2" not in case.machine.cpu_flags:
        return "bitsandbytes needs a CPU with AVX2, and this one has none."
    return None


def old_gpu(case: Case) -> str | None:
    """PyTorch's CUDA 13 builds start at SM 7.5, its CUDA 12 ones at 7.0; bitsandbytes at 6.0."""
    if case.on_nvidia and case.capability < 70:
        return f"PyTorch has no kernels for {case.where}; compute capability 7.0 is the oldest."
    return None


RULES: tuple[Rule, ...] = (needs_gguf_engine, mistral_format, unknown_method, gpu_only_method, old_cpu, old_gpu)


def notes(case: Case) -> tuple[str, ...]:
    """What running it here needs or changes."""
    said = []
    if package := KERNELS.get(case.method):
        said.append(f"{case.method} weights need {package} in the Transformers environment.")
    if case.method == "mxfp4" and case.device is Device.CPU:
        said.append("MXFP4 weights may be unpacked to 16 bits on a CPU: plan for four times the memory.")
    return tuple(said)
