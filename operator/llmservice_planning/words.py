"""Numbers and models as every explanation spells them."""

from __future__ import annotations

from llmservice_runtime.formats.facts import ModelFacts


def memory(size: int) -> str:
    """`4.4 GiB`, or `312 MiB` below one GiB."""
    if abs(size) < 1 << 30:
        return f"{size / (1 << 20):.0f} MiB"
    return f"{size / (1 << 30):.1f} GiB"


def per_second(tokens: float) -> str:
    """`1,240`, or `7.3` below ten: tokens per second."""
    return f"{tokens:.1f}" if tokens < 10 else f"{tokens:,.0f}"


def count(number: int) -> str:
    """`7.6 B`, `494 M`, `12 k`: parameters."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            value = number / size
            return f"{value:.1f} {unit}" if value < 10 and unit != "M" else f"{value:.0f} {unit}"
    return str(number)


def model_line(facts: ModelFacts) -> str:
    """`qwen2 7.6 B, GGUF Q4_K_M, 4.4 GiB`."""
    weights = facts.quantization.name if facts.quantization else facts.dtype
    kind = "" if weights.upper() == facts.format.value.upper() else f" {weights}"
    return f"{facts.architecture} {count(facts.parameters)}, {facts.format.value}{kind}, {memory(facts.weight_bytes)}"
