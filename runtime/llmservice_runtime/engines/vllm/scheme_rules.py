"""What compressed-tensors and AutoRound do that vLLM has no scheme for, and experts that it has no kernels for."""

from __future__ import annotations

from collections.abc import Iterator

from llmservice_runtime.engines.base.case import Case, sm
from llmservice_runtime.formats.fused import FUSED
from llmservice_runtime.machine.machine import Device

OF_AMX = frozenset({"gptq", "awq", "compressed-tensors", "moe-wna16"})
"""Methods whose experts on x86 CPUs are those that vLLM has for AMX (int_wna16.py, int8.py)."""
REFUSES_DIVIDED = frozenset({
    "auto-round", "inc", "fp8", "awq", "mxfp4", "compressed-tensors", "modelopt", "modelopt-fp4", "modelopt-mixed",
})  # fmt: skip
"""Methods that ask for all parts of a layer alike (is_layer_skipped, should_ignore_layer, inc/config_parser.py)."""
UNQUANTIZED_ON_CPUS = frozenset({"auto-round", "inc"})
"""Methods whose experts vLLM takes for unquantized on CPUs (inc_wna16_scheme.py)."""


def no_scheme(case: Case) -> str | None:
    """Groups of compressed-tensors that vLLM has no scheme for: `compressed` says what it asks."""
    for word, made in groups(case):
        if made is None:
            from llmservice_runtime.engines.vllm import compressed

            elsewhere = compressed.scheme(word, compressed.HOPPER)
            alone = f", only on SM {sm(compressed.HOPPER)}" if elsewhere and case.on_nvidia else ""
            return f"vLLM has no scheme for compressed-tensors' {word} on {case.where}{alone}."
    return None


def no_experts(case: Case) -> str | None:
    """Experts that vLLM has no kernels for; what it asks of compressed-tensors is in `compressed_experts`."""
    if not case.facts.mixture_experts or not case.method:
        return None
    if case.device is Device.CPU and case.method in UNQUANTIZED_ON_CPUS:
        return f"vLLM runs experts in {called(case)} on GPUs only."
    x86 = case.device is Device.CPU and case.machine.architecture == "x86_64"
    if x86 and case.method in OF_AMX and "amx_tile" not in case.machine.cpu_flags:
        return f"vLLM runs experts in {called(case)} on CPUs with AMX only, and this one has none."
    for word in words(case, "experts") if x86 or case.on_nvidia else ():
        from llmservice_runtime.engines.vllm import compressed_experts

        if not compressed_experts.method(word, compressed_experts.CPU if x86 else case.capability):
            return f"vLLM has no experts in compressed-tensors' {word} on {case.where}."
    return None


def no_auto_round(case: Case) -> str | None:
    """AutoRound's numbers, groups and packings that vLLM does not read together, of all layers or of some, and what it
    does not take beside them."""
    found = list(words(case, "auto_round")) if case.on_nvidia or case.device is Device.CPU else []
    for word in found:
        from llmservice_runtime.engines.vllm import auto_round

        if not auto_round.takes(word, cpu=case.device is Device.CPU):
            return f"vLLM does not read AutoRound's weights as {_shown(word)} on {case.where}."
        if word is found[0] and (act := auto_round.refused_act(word, words(case, "auto_round_act"))):
            key, _, only = act.partition(" ")
            only = auto_round.expected_acts(word)[key]
            return f"vLLM takes AutoRound's weights as {_shown(word)} only where {key} is {only}, not {_shown(act)}."
    return None


def divided(case: Case) -> str | None:
    """Layers that vLLM reads as one, and that are not quantized alike."""
    if case.method not in REFUSES_DIVIDED:
        return None
    for place in words(case, "divided"):
        parts = " and ".join(FUSED.get(place.rpartition(".")[2], ("all experts",)))
        return f"vLLM reads {parts} as one layer, and they are not quantized alike in {_shown(place)}."
    return None


def _shown(word: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in word)


def groups(case: Case) -> list[tuple[str, str | None]]:
    """The groups of compressed-tensors, as the checkpoint's facts word them, and vLLM's scheme for each; none where
    facts are older."""
    if case.method != "compressed-tensors" or case.facts.quantization is None:
        return []
    from llmservice_runtime.engines.vllm import compressed  # other checkpoints are planned without it

    capability = case.capability or compressed.FP8_FLOOR  # without one no floor holds a scheme back
    return [(word, compressed.scheme(word, capability)) for word in words(case, "scheme")]


def words(case: Case, key: str) -> Iterator[str]:
    """What the checkpoint's facts say of its quantization by that key."""
    for stated in case.facts.quantization.stated if case.facts.quantization else ():
        name, _, word = stated.partition("=")
        if name == key:
            yield word


def called(case: Case) -> str:
    """The quantization as people say it, else the type."""
    quantization = case.facts.quantization
    return quantization.name if quantization else case.facts.dtype
