"""vLLM to those who plan."""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_runtime.engines.base.caches import TORCH
from llmservice_runtime.engines.base.case import Case, preferred_for_throughput
from llmservice_runtime.engines.base.definition import CoarserVersion, EngineDefinition
from llmservice_runtime.engines.vllm.contradictions import check
from llmservice_runtime.engines.vllm.install.recipe import RECIPE
from llmservice_runtime.engines.vllm.memory import VllmMemory
from llmservice_runtime.engines.vllm.options import SHARES, vllm_options
from llmservice_runtime.engines.vllm.rules import BF16_FLOOR, RULES, notes
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.budget import Layout, Shape
from llmservice_runtime.estimate.overhead import UTILISATION
from llmservice_runtime.formats.facts import ModelFacts, Quantization
from llmservice_runtime.machine.machine import Device


def preference(facts: ModelFacts, device: Device) -> int:
    """On a GPU it serves the most requests, and on a CPU it has the kernels for quantized weights."""
    return 20 if preferred_for_throughput(facts, device) else 30


def reason(case: Case) -> str:
    """Why it was chosen."""
    return f"vLLM runs {case.weights} on {case.where} and serves the most requests at a time there."


def memory(args: Sequence[str]) -> VllmMemory:
    """What it takes; UserError names the argument that it would refuse."""
    return VllmMemory(vllm_options(args))


def contradiction(case: Case, args: Sequence[str]) -> None:
    """UserError names the argument that contradicts plan, model or device."""
    check(case, vllm_options(args))


def arguments(case: Case, shape: Shape, args: Sequence[str]) -> tuple[str, ...]:
    """Lengths, and on GPUs how they are shared; then the user's, each once. Before SM 8.0 there is no bf16."""
    options, layout = vllm_options(args), shape.layout
    said = [f"--max-model-len={shape.context_tokens}", f"--max-num-seqs={shape.sequences}"]
    if case.gpu is None:
        return (*said, *options.rest)
    said += layout_arguments(layout) if layout.tensor > 1 else (f"{SHARES[0]}=1", *layout_arguments(layout))
    stated = options.given.get("--gpu-memory-utilization")
    said.append(str(stated) if stated else f"--gpu-memory-utilization={UTILISATION:.2f}")
    old = case.on_nvidia and case.capability < BF16_FLOOR and case.facts.dtype == "BF16"
    if old and options.value("--dtype") in (None, "auto"):
        said.append("--dtype=float16")
    return (*said, *options.rest)


def layout_arguments(layout: Layout) -> tuple[str, ...]:
    """What is more than one of."""
    sizes = zip(SHARES, (layout.tensor, layout.pipeline, layout.copies), strict=True)
    return tuple(f"{name}={size}" for name, size in sizes if size > 1)


ENGINE = EngineDefinition(
    label="vLLM",
    rules=RULES,
    notes=notes,
    reason=reason,
    preference=preference,
    memory=memory,
    contradiction=contradiction,
    arguments=arguments,
    config_classes=lambda: known().configs,
    layout_arguments=layout_arguments,
    caches={**TORCH, "VLLM_CACHE_ROOT": "vllm", "VLLM_CONFIG_ROOT": "config/vllm"},
    devices=frozenset({Device.CPU, Device.NVIDIA}),
    recipe=RECIPE,
    coarser=(CoarserVersion("a 4-bit AWQ", 5.0, Quantization("awq", "AWQ 4-bit", 4, group_size=128)),),
)
