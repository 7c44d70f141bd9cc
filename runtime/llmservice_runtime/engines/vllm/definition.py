"""vLLM to those who plan."""

from __future__ import annotations

from collections.abc import Sequence

from llmservice_runtime.engines.base.case import Case, preferred_for_throughput
from llmservice_runtime.engines.base.definition import CoarserVersion, EngineDefinition
from llmservice_runtime.engines.vllm.arguments import check
from llmservice_runtime.engines.vllm.memory import VllmMemory
from llmservice_runtime.engines.vllm.rules import BF16_FLOOR, RULES, known, notes
from llmservice_runtime.estimate.budget import Shape
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
    check(args)
    return VllmMemory()


def arguments(case: Case, shape: Shape) -> tuple[str, ...]:
    """Lengths, and on GPUs how they are shared. Before SM 8.0 there is no bf16."""
    args = [f"--max-model-len={shape.context_tokens}", f"--max-num-seqs={shape.sequences}"]
    if case.gpu is None:
        return tuple(args)
    args += [f"--tensor-parallel-size={shape.gpus}", f"--gpu-memory-utilization={UTILISATION:.2f}"]
    if case.on_nvidia and case.capability < BF16_FLOOR and case.facts.dtype == "BF16":
        args.append("--dtype=float16")
    return tuple(args)


ENGINE = EngineDefinition(
    label="vLLM",
    rules=RULES,
    notes=notes,
    reason=reason,
    preference=preference,
    memory=memory,
    arguments=arguments,
    config_classes=lambda: known().configs,
    devices=frozenset({Device.NVIDIA, Device.AMD, Device.INTEL}),
    coarser=(CoarserVersion("a 4-bit AWQ", 5.0, Quantization("awq", "AWQ 4-bit", 4, group_size=128)),),
)
