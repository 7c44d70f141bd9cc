"""Ways out of a refusal: changes of spec, model or machine, offered only if planning with them succeeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmservice_api.v1alpha1 import LLMServiceSpec, LoadQuantization
from llmservice_planning.words import memory
from llmservice_runtime.engines.base.definition import EngineDefinition
from llmservice_runtime.estimate.budget import HOST, EngineMemory
from llmservice_runtime.estimate.fit import Shortfall
from llmservice_runtime.formats.facts import ModelFacts, ModelFormat, Quantization
from llmservice_runtime.machine.gpus import find_gpu
from llmservice_runtime.machine.machine import Device, Machine

MOST = 3
"""Ways that are offered."""

GGUF_BITS = {"Q8_0": 8.6, "Q6_K": 6.7, "Q5_K_M": 5.9, "Q4_K_M": 5.2, "Q3_K_M": 4.2, "Q2_K": 3.4}
"""Bits per weight of whole files, rounded up: small models keep a large share of their weights in finer types."""

BIGGER = {
    Device.NVIDIA: ("L4", "A10", "L40S", "A100-80GB", "H100-80GB", "H200", "B200"),
    Device.AMD: ("MI210", "MI300X", "MI325X", "MI350X"),
    Device.INTEL: ("Arc-Pro-B60", "Max-1100", "Max-1550"),
}
"""GPUs that data centres rent out, smallest first."""

Works = Callable[[LLMServiceSpec, ModelFacts, Machine], bool]


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way out: what to do, and the case it leads to."""

    text: str
    spec: LLMServiceSpec
    facts: ModelFacts
    machine: Machine


@dataclass(frozen=True, slots=True)
class Stuck:
    """What did not fit, and the engine it did not fit on."""

    short: Shortfall
    engine: EngineDefinition
    memory: EngineMemory


def remedies(
    spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, stuck: Stuck, works: Works
) -> tuple[Remedy, ...]:
    """At most three ways that work, nearest first: change the spec, change the model, change the machine."""
    found: list[Remedy] = []
    for way in (
        _smaller_context,
        _smaller_cache,
        _more_gpus,
        _converted,
        _quantized,
        _bigger_gpu,
        _on_cpu,
        _more_memory,
        _smaller_model,
    ):
        first = next((r for r in way(spec, facts, machine, stuck) if works(r.spec, r.facts, r.machine)), None)
        if first:
            found.append(first)
        if len(found) == MOST:
            break
    return tuple(found)


Way = Iterator[Remedy]


def _smaller_context(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, stuck: Stuck) -> Way:
    """The largest context that fits; not worth saying below 512 tokens."""
    tokens = stuck.short.largest_context
    name = stuck.memory.asked.names.get("context_tokens", "").partition("=")[0]
    while tokens >= 512:
        if name:
            smaller, text = _with_args(spec, (f"{name}={tokens}",)), f"Set {name} to {tokens} in engine.args"
        else:
            smaller, text = spec.model_copy(update={"context_tokens": tokens}), f"Set contextTokens to {tokens}"
        yield Remedy(f"{text}, the largest that fits.", smaller, facts, machine)
        tokens = tokens * 9 // 10


def _smaller_cache(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, stuck: Stuck) -> Way:
    """Some engines can keep their cache in 8 bits."""
    argument = stuck.engine.small_cache
    name = argument.partition("=")[0]
    if argument and not any(arg.startswith(name) for arg in spec.engine.args):
        eight = _with_args(spec, (argument,))
        yield Remedy(f"Add {argument} to engine.args: it halves the KV cache.", eight, facts, machine)


def _more_gpus(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, stuck: Stuck) -> Way:
    """More of the same GPU: on this machine when it has them, else on one that does."""
    gpu = machine.gpu
    if gpu is None or stuck.short.shape.device is Device.CPU or stuck.memory.asked.layout:
        return
    ways = [(n, layout) for n in range(stuck.short.shape.gpus + 1, 17) for layout in stuck.memory.layouts(facts, n)[:1]]
    for count, layout in sorted(ways, key=lambda way: (way[0] > machine.gpu_count, way[1].pipeline > 1, way[0])):
        larger = count > machine.gpu_count
        place = f"Use a machine with {count} × {gpu.product} and " if larger else ""
        there = dataclasses.replace(machine, gpus=(gpu,) * count) if larger else machine
        if layout.pipeline == 1:
            text, more = f"set accelerator.count to {count}.", _with_count(spec, count)
        else:
            args = stuck.engine.layout_arguments(layout)
            more = _with_args(_with_count(spec, None), args)
            instead = " in place of the stated count of GPUs" if spec.accelerator.count else ""
            text = f"add {' and '.join(args)} to engine.args{instead}: every GPU then has a part of the layers."
        yield Remedy(f"{place}{text}" if place else text[0].upper() + text[1:], more, facts, there)


def _with_args(spec: LLMServiceSpec, args: tuple[str, ...]) -> LLMServiceSpec:
    """Of an option that is there already the last counts."""
    engine = spec.engine.model_copy(update={"args": [*spec.engine.args, *args]})
    return spec.model_copy(update={"engine": engine})


def _with_count(spec: LLMServiceSpec, count: int | None) -> LLMServiceSpec:
    return spec.model_copy(update={"accelerator": spec.accelerator.model_copy(update={"count": count})})


def _converted(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, stuck: Stuck) -> Way:
    """The same weights, made smaller while they are loaded: finest first."""
    if facts.quantization is None and spec.engine.load_quantization is None:
        for wanted in (LoadQuantization.FP8, LoadQuantization.INT8, LoadQuantization.NF4):
            engine = spec.engine.model_copy(update={"load_quantization": wanted})
            text = f"Set engine.loadQuantization to {wanted}: the weights are made smaller while they are loaded."
            if wanted in stuck.engine.conversions:
                yield Remedy(text, spec.model_copy(update={"engine": engine}), facts, machine)


def _quantized(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, stuck: Stuck) -> Way:
    """A coarser version of the same model: what the engine knows of, then a GGUF."""
    bits = 8 * facts.weight_bytes / max(1, facts.parameters)
    for version in stuck.engine.coarser:
        if bits > version.bits * 1.2:
            smaller = _as_size(facts, version.bits, ModelFormat.SAFETENSORS, version.quantization)
            yield Remedy(_version(version.name, smaller), spec, smaller, machine)
    for name, wide in GGUF_BITS.items():
        if wide < bits * 0.95:
            smaller = _as_size(facts, wide, ModelFormat.GGUF, Quantization("gguf", name, wide))
            yield Remedy(
                f"{_version(f'a {name} GGUF', smaller)}{_args_left(spec, facts)}", _bare(spec, facts), smaller, machine
            )


def _bigger_gpu(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, stuck: Stuck) -> Way:
    """The smallest bigger kind, as many of them as now."""
    gpu = machine.gpu
    if gpu is None or stuck.short.shape.device is Device.CPU:
        return
    for name in BIGGER[gpu.vendor]:
        bigger = find_gpu(name)
        if bigger.memory_bytes > gpu.memory_bytes and bigger.capability >= gpu.capability:
            count = machine.gpu_count
            text = f"Use a bigger GPU: {count} × {bigger.product} ({memory(bigger.memory_bytes)} each) fits it."
            yield Remedy(text, spec, facts, dataclasses.replace(machine, gpus=(bigger,) * count))


def _on_cpu(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, stuck: Stuck) -> Way:
    """The host's memory is often larger."""
    if stuck.short.shape.device is Device.CPU:
        return
    none = {"count": 0, "resource_name": None, "memory": None}  # what is said of accelerators contradicts a count of 0
    cpu = spec.model_copy(update={"accelerator": spec.accelerator.model_copy(update=none)})
    said = {"resourceName": spec.accelerator.resource_name, "memory": spec.accelerator.memory}
    others = " and ".join(name for name, value in said.items() if value)
    alone = f" and leave {others} out" if others else ""
    text = f"Set accelerator.count to 0{alone}: it fits the host's memory and runs on the CPU, slowly."
    yield Remedy(text, cpu, facts, machine)


def _more_memory(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, stuck: Stuck) -> Way:
    """More free host memory."""
    if stuck.short.where != HOST:
        return
    for extra in (1.0, 1.05, 1.15, 1.5):
        gib = -(-int((machine.memory_available + stuck.short.missing) * extra) // (1 << 30))
        size = gib << 30
        larger = dataclasses.replace(machine, memory_bytes=max(machine.memory_bytes, size), memory_available=size)
        text = f"Free memory, or use a machine with {gib} GiB of free memory (now {memory(machine.memory_available)})."
        if limit := spec.resources.limits.memory:
            text = f"Raise resources.limits.memory to {gib}Gi (now {limit})."
        yield Remedy(text, spec, facts, larger)


def _smaller_model(spec: LLMServiceSpec, facts: ModelFacts, machine: Machine, stuck: Stuck) -> Way:
    """What size would do, when this one is out of reach."""
    for billions in (70, 32, 14, 8, 4, 3, 1.5, 0.5):
        if billions * 1e9 < 0.8 * facts.parameters:
            fewer = dataclasses.replace(
                facts, parameters=int(billions * 1e9), layer_weight_bytes=(), context_tokens=8192
            )
            smaller = _as_size(fewer, GGUF_BITS["Q4_K_M"], ModelFormat.GGUF, Quantization("gguf", "Q4_K_M", 5))
            planned = _bare(spec, facts).model_copy(update={"context_tokens": None})
            text = f"Use a smaller model: a Q4_K_M GGUF of {billions:g} B parameters fits.{_args_left(spec, facts)}"
            yield Remedy(text, planned, smaller, machine)


def _bare(spec: LLMServiceSpec, facts: ModelFacts) -> LLMServiceSpec:
    """For a GGUF: without arguments of an engine that reads none."""
    bare = spec.engine.model_copy(update={"args": []})
    return spec.model_copy(update={"engine": bare}) if _args_left(spec, facts) else spec


def _args_left(spec: LLMServiceSpec, facts: ModelFacts) -> str:
    return " Leave engine.args out then." if spec.engine.args and facts.format is not ModelFormat.GGUF else ""


def _version(kind: str, facts: ModelFacts) -> str:
    return f"Use {kind} of the same model (about {memory(facts.weight_bytes)}) in model.uri or model.include."


def _as_size(facts: ModelFacts, bits: float, form: ModelFormat, quantization: Quantization) -> ModelFacts:
    """The same model in other weights. What a GGUF calls its architecture is not known from config.json, nor back."""
    size = int(facts.parameters * bits / 8)
    same_names = (form is ModelFormat.GGUF) is (facts.format is ModelFormat.GGUF)
    old = max(1, facts.weight_bytes)
    return dataclasses.replace(
        facts,
        format=form,
        architecture=facts.architecture if same_names else "",
        model_type=facts.model_type if same_names else "",
        quantization=quantization,
        weight_bytes=size,
        layer_weight_bytes=tuple(-(-layer * size // old) for layer in facts.layer_weight_bytes),
        file_bytes=size,
        notes=(),
    )
