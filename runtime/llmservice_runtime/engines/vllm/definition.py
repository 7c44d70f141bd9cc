"""vLLM to those who plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.settings import OF_SOME_ENGINES
from llmservice_runtime.engines.base.caches import TORCH
from llmservice_runtime.engines.base.case import Case, preferred_for_throughput
from llmservice_runtime.engines.base.definition import CoarserVersion, EngineDefinition
from llmservice_runtime.engines.vllm.contradictions import check
from llmservice_runtime.engines.vllm.failures import LAST_WORDS
from llmservice_runtime.engines.vllm.install.recipe import RECIPE
from llmservice_runtime.engines.vllm.memory import VllmMemory, exact
from llmservice_runtime.engines.vllm.options import ONLINE, SHARES, vllm_options
from llmservice_runtime.engines.vllm.rules import BF16_FLOOR, RULES, notes, sees
from llmservice_runtime.engines.vllm.sharding import is_among
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.adapters import HEADS, AdapterRoom
from llmservice_runtime.estimate.budget import Layout, Shape
from llmservice_runtime.estimate.overhead import UTILISATION
from llmservice_runtime.formats.facts import ModelFacts, Quantization
from llmservice_runtime.formats.lora_facts import LoraFacts
from llmservice_runtime.machine.machine import Device

RUST_ENV = "VLLM_USE_RUST_FRONTEND"
PICTURES = {
    # The most that a request may have (contract/pictures.py); pictures are all of other kinds that we offer.
    "--limit-mm-per-prompt": '{"image":16,"video":0,"audio":0}',
    # vLLM would keep 4 GiB of pictures that it has unpacked.
    "--mm-processor-cache-gb": "0.25",
}
"""Of models that see, where the user says nothing."""
CPU_BLOCK = 128
"""Tokens of a block of the KV cache where no argument says (platforms/cpu.py)."""
NO_CACHE = 1 << 20
"""What is said of the cache of a model that keeps none: vLLM takes nothing of it."""


def preference(facts: ModelFacts, device: Device) -> int:
    """On a GPU it serves the most requests, and on a CPU it has the kernels for quantized weights."""
    return 20 if preferred_for_throughput(facts, device) else 30


def reason(case: Case) -> str:
    """Why it was chosen."""
    if case.facts.pools:
        return f"vLLM runs {case.weights} on {case.where}, a text of each request in turn."
    return f"vLLM runs {case.weights} on {case.where} and serves the most requests at a time there."


def memory(args: Sequence[str]) -> VllmMemory:
    """What it takes; UserError names the argument that it would refuse."""
    return VllmMemory(vllm_options(args))


def contradiction(case: Case, args: Sequence[str]) -> None:
    """UserError names the argument that contradicts plan, model or device."""
    check(case, vllm_options(args))


def environment(environ: Mapping[str, str]) -> None:
    """UserError names the variable that would leave out our plug-ins."""
    if environ.get(RUST_ENV, "0").strip() not in ("", "0"):
        reason = "vLLM's Rust front end loads no plug-ins: nothing would be drained, bounded or watched."
        raise UserError(f"engine.env: {RUST_ENV} is {environ[RUST_ENV]}. {reason}", "Leave it out.")


def arguments(case: Case, shape: Shape, args: Sequence[str]) -> tuple[str, ...]:
    """Lengths, and on GPUs how they are shared; then the user's, each once. Before SM 8.0 there is no bf16."""
    options, layout = vllm_options(args), shape.layout
    said = [f"--max-model-len={shape.context_tokens}", f"--max-num-seqs={shape.sequences}"]
    if sees(case):
        said += [f"{name}={value}" for name, value in PICTURES.items() if name not in options.given]
    if case.gpu is None:
        if exact(case.facts, case.device, options):
            said.append("--dtype=float32")
        if options.cache_bytes is None:  # it would take a share of the whole machine's memory
            said.append(f"--kv-cache-memory-bytes={cpu_cache_bytes(case, shape, args)}")
        return (*said, *options.rest)
    said += layout_arguments(layout) if layout.tensor > 1 else (f"{SHARES[0]}=1", *layout_arguments(layout))
    stated = options.given.get("--gpu-memory-utilization")
    said.append(str(stated) if stated else f"--gpu-memory-utilization={UTILISATION:.2f}")
    old = case.on_nvidia and case.capability < BF16_FLOOR and case.facts.dtype == "BF16"
    if old and options.value("--dtype") in (None, "auto"):
        said.append("--dtype=float16")
    return (*said, *options.rest)


def cpu_cache_bytes(case: Case, shape: Shape, args: Sequence[str]) -> int:
    """Of the planned KV cache, in whole blocks: two more, for the end of the last sequence and the one never used."""
    takes = memory(args)
    cache = sum(line.bytes for line in takes.lines(case.facts, shape) if line.is_cache)
    if not cache and case.facts.pools:
        return NO_CACHE
    return cache + 2 * CPU_BLOCK * -(-cache // max(1, takes.cached_tokens(case.facts, shape)))


def layout_arguments(layout: Layout) -> tuple[str, ...]:
    """What is more than one of."""
    sizes = zip(SHARES, (layout.tensor, layout.pipeline, layout.copies), strict=True)
    return tuple(f"{name}={size}" for name, size in sizes if size > 1)


def adapter_arguments(room: AdapterRoom) -> tuple[str, ...]:
    """All of a room's adapters are computed with at a time, whichever requests name them."""
    if not room.count:
        return ()
    counts = (f"{name}={room.count}" for name in ("--max-loras", "--max-cpu-loras"))
    return ("--enable-lora", *counts, f"--max-lora-rank={room.rank}")


def adapter_objection(adapter: LoraFacts, model: ModelFacts) -> str:
    """Not every model's code takes adapters, and none of the output layer."""
    if not is_among(model.architecture, known().adapted):
        return f"vLLM loads no adapters of {model.architecture or 'this architecture'}"
    head = next((target.name for target in adapter.targets if target.name in HEADS), "")
    return f"it changes the output layer ({head}), which vLLM takes no adapter of" if head else ""


ENGINE = EngineDefinition(
    label="vLLM",
    rules=RULES,
    notes=notes,
    reason=reason,
    preference=preference,
    memory=memory,
    contradiction=contradiction,
    environment=environment,
    arguments=arguments,
    adapter_arguments=adapter_arguments,
    adapter_objection=adapter_objection,
    config_classes=lambda: known().configs,
    conversions=frozenset(ONLINE),
    layout_arguments=layout_arguments,
    own_settings=frozenset(OF_SOME_ENGINES),
    caches={**TORCH, "VLLM_CACHE_ROOT": "vllm", "VLLM_CONFIG_ROOT": "config/vllm"},
    gguf=False,
    pools=True,
    devices=frozenset({Device.CPU, Device.NVIDIA}),
    recipe=RECIPE,
    last_words=LAST_WORDS,
    coarser=(CoarserVersion("a 4-bit AWQ", 5.0, Quantization("awq", "AWQ 4-bit", 4, group_size=128)),),
)
