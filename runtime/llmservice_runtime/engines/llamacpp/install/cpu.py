"""Which instructions llama.cpp may use here: /proc/cpuinfo in, CMake flags out. Pure.

A native build is never made: on virtual machines that advertise AMX it crashes in quantized kernels. So each feature is
named, on or off, and AMX is always off.
"""

from __future__ import annotations

from collections.abc import Iterable

X86_FEATURES: dict[str, tuple[str, ...]] = {
    "GGML_SSE42": ("sse4_2",),
    "GGML_AVX": ("avx",),
    "GGML_AVX2": ("avx2",),
    "GGML_BMI2": ("bmi2",),
    "GGML_FMA": ("fma",),
    "GGML_F16C": ("f16c",),
    "GGML_AVX_VNNI": ("avx_vnni", "avx2"),
    "GGML_AVX512": ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
    "GGML_AVX512_VBMI": ("avx512vbmi", "avx512f"),
    "GGML_AVX512_VNNI": ("avx512_vnni", "avx512f"),
    "GGML_AVX512_BF16": ("avx512_bf16", "avx512f"),
}
"""llama.cpp's option, and the cpuinfo flags it needs."""

NEVER = ("GGML_NATIVE", "GGML_AMX_TILE", "GGML_AMX_INT8", "GGML_AMX_BF16")
PORTABLE = frozenset({"sse4_2", "avx", "avx2", "bmi2", "fma", "f16c"})
ARM_EXTENSIONS = {"asimddp": "dotprod", "asimdhp": "fp16", "i8mm": "i8mm"}


def cpu_features(cpuinfo: str) -> frozenset[str]:
    """Features that every listed processor has (`flags` on x86, `Features` on ARM)."""
    rows = [
        frozenset(value.split())
        for name, _, value in (line.partition(":") for line in cpuinfo.splitlines())
        if name.strip() in ("flags", "Features")
    ]
    return frozenset.intersection(*rows) if rows else frozenset()


def cmake_flags(features: Iterable[str], machine: str, portable: bool = False) -> tuple[str, ...]:
    """`-D` options for this CPU; `machine` as `platform.machine()` says; `portable` = nothing newer than AVX2."""
    present = frozenset(features)
    flags = [f"-D{option}=OFF" for option in NEVER]
    if machine in ("x86_64", "AMD64"):
        usable = present & PORTABLE if portable else present
        for option, needed in X86_FEATURES.items():
            flags.append(f"-D{option}={'ON' if usable.issuperset(needed) else 'OFF'}")
    elif machine in ("aarch64", "arm64"):
        extensions = [] if portable else [name for flag, name in ARM_EXTENSIONS.items() if flag in present]
        level = "armv8.2-a" if extensions else "armv8-a"
        flags.append(f"-DGGML_CPU_ARM_ARCH={'+'.join([level, *extensions])}")
    return tuple(flags)
