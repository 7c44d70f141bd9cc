"""When vLLM runs a model. What vLLM knows of itself comes from capabilities.json, at the version that stands there.

Capability floors are SM times ten, as `get_min_capability` has them, but never below 75: the wheel holds no older code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from llmservice_runtime.engines.base.capabilities import Method
from llmservice_runtime.engines.base.case import TAKES_PICTURES, Case, Rule, is_gguf, sm
from llmservice_runtime.engines.vllm import kv_cache
from llmservice_runtime.engines.vllm.scheme_rules import (
    called,
    divided,
    groups,
    no_auto_round,
    no_experts,
    no_scheme,
    words,
)
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.formats.facts import LayerKind, ModelFacts, ModelFormat, Task
from llmservice_runtime.formats.quantization import STATES
from llmservice_runtime.machine.machine import Device

WHEEL_FLOOR = 75
BF16_FLOOR = 80
MOST_WORDS = 12
"""A longer list is not shown whole."""

PLATFORM = {Device.NVIDIA: "CUDA", Device.AMD: "ROCM", Device.INTEL: "XPU", Device.CPU: "CPU"}

SCHEMES = {"w4a8": "CompressedTensorsW4A8Fp8", "mxfp4": "CompressedTensorsW4A4Mxfp4"}
"""Words of a scheme -> vLLM's class for it, where that has a floor of its own; the others follow the method."""

GENERATORS = frozenset({"Generation", "Multimodal"})
"""Tables of vLLM's registry whose models write text."""

LINEAR = {
    "gptq": "MIXED", "awq": "MIXED", "auto-round": "MIXED", "inc": "MIXED", "moe-wna16": "MIXED", "fp8": "FP8",
    "compressed-tensors": "INT8", "modelopt-fp4": "NVFP4", "mxfp8": "MXFP8", "mxfp4": "MXFP4",
}  # fmt: skip
"""Method -> the kind of linear layer that vLLM picks a kernel for. On CPUs vLLM lists kernels only, and no methods."""

ENCODERS = frozenset({
    "BertModel", "RobertaForMaskedLM", "RobertaModel", "XLMRobertaModel",
    "BertForSequenceClassification", "RobertaForSequenceClassification", "XLMRobertaForSequenceClassification",
})  # fmt: skip
"""Architectures whose vectors and scores a test holds against Transformers': vLLM has more, and decides by the name
which way their attention goes."""
CPU_HEADS = frozenset({32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512})
"""Widths of heads that there are kernels for on a CPU (cpu_attn.py)."""

QWEN_CODE = frozenset({"qwen2", "qwen3", "qwen2_vl", "qwen2_5_vl", "qwen2_audio", "qwen2_5_omni"})
"""Model types whose language model is that of Qwen 2."""
RENAMED_ROPES = frozenset({"xdrope"})
"""Names that a model's config class replaces by one that vLLM has (hunyuan_vl)."""


def architecture(case: Case) -> str:
    """Of several names the one that vLLM takes: the first that it has code for, else the first. Empty = none."""
    return next((name for name in case.architectures if known().has(name)), case.architecture)


def unknown_architecture(case: Case) -> str | None:
    """Architectures that are in no table of vLLM's, with what became of them."""
    name, told = architecture(case), known()
    if is_gguf(case) or not name:
        return None
    version = told.versions["vllm"]
    if told.runs(name):  # what it has dropped too, where Transformers' code does as well
        return None
    if last := told.dropped.get(name):
        return f"vLLM ran {name} up to version {last}, and this one is {version}."
    if plugin := told.elsewhere.get(name):
        return f"vLLM runs {name} only through a plug-in ({plugin}), which is not part of any image of ours."
    return f"vLLM {version} does not know the architecture {name}{told.spelled(name)}."


def own_configuration(case: Case) -> str | None:
    """Configurations that are code of the repository: it is not run, and then vLLM does not start."""
    kind = case.facts.model_type
    if case.facts.remote_code and not case.loading.remote_code and kind and kind not in known().model_types:
        return f"the configuration of {kind[:80]} is code of the repository, which is not run."
    return None


def not_a_generator(case: Case) -> str | None:
    """What vLLM serves, but not to write text: by its tables, or by the end of the name."""
    name, told = architecture(case), known()
    if is_gguf(case) or case.facts.task not in (Task.CHAT, Task.COMPLETION):
        return None
    if not name:
        nameless = case.facts.model_type and case.facts.format is not ModelFormat.MISTRAL
        return (
            "config.json names no architecture, and vLLM would then serve the model's base, for vectors."
            if nameless
            else None
        )
    kinds = told.architectures.get(name)
    if kinds and not kinds & GENERATORS:
        return f"vLLM has {name} for other things than writing text ({', '.join(sorted(kinds))})."
    kept = told.kept_as(name)
    if kinds is None and kept and name not in told.by_transformers and told.end(name)[1] == "generate":
        if not (of := told.architectures[kept]) & GENERATORS:
            return f"vLLM has {name} as {kept} only, for other things than writing text."
        if of == {"Multimodal"} and name.endswith("ForCausalLM"):
            return f"vLLM has {name} as {kept} only, whose processor and weights for pictures this model has not."
    end, runner = told.end(name)
    if kinds is None and runner == "pooling" and told.has(name):
        right = f"{name.removesuffix(end)}ForCausalLM"
        return f"vLLM serves {name} for vectors; if it writes text, architectures in config.json should be {right}."
    return None


def unable_pooling(case: Case) -> str | None:
    """Vectors and scores that are not known to be what the model's files mean."""
    facts, name = case.facts, architecture(case)
    if is_gguf(case) or not facts.pools:
        return None
    if facts.unpooled:
        return facts.unpooled
    if not facts.pooling:
        return "the files do not say how a text's vectors become one (modules.json, 1_Pooling/config.json)."
    if facts.projected:
        return "modules.json has a part Dense, which vLLM is not asked for here."
    writes = "Generation" in known().architectures.get(name, frozenset())
    decodes = writes and (facts.pooling == "Last" or facts.asked)
    if name not in ENCODERS and not decodes:
        kind = "scores" if facts.task is Task.RERANK else f"vectors pooled by {facts.pooling}"
        return f"vLLM's {kind} of {name or 'this model'} are not tried here."
    if case.loading.quantization:
        return "weights are made smaller while they are loaded for models that write text alone."
    return None


def keeps_nothing(facts: ModelFacts) -> bool:
    """Whether it reads a whole text at once, so that no cache is made for it."""
    return not ENCODERS.isdisjoint((facts.architecture, *facts.other_architectures))


def window_in_some_layers(case: Case) -> str | None:
    """Qwen's layers have a window all or not at all (qwen2.py)."""
    kinds = {group.kind for group in case.facts.layers}
    if case.facts.model_type.removesuffix("_text") in QWEN_CODE and {LayerKind.FULL, LayerKind.SLIDING} <= kinds:
        return f"vLLM does not run {architecture(case)} with a window in some of its layers (max_window_layers)."
    return None


def unknown_rope(case: Case) -> str | None:
    """Types of RoPE that only another engine has."""
    told = known()
    for kind in case.facts.rope_types:
        if kind not in told.rope and kind not in RENAMED_ROPES:
            return f"vLLM {told.versions['vllm']} has no RoPE of the type {kind[:40]}."
    return None


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
    if (method := _method(case)) and method.deprecated:
        return f"vLLM has deprecated {case.method} and refuses it."
    return None


def unknown_method(case: Case) -> str | None:
    """Methods that vLLM does not list for the device, or has no kernels for there."""
    if not case.method:
        return None
    method, platform = _method(case), PLATFORM[case.device]
    kernels = known().kernels.get(LINEAR.get(case.method, ""), {})
    if method and platform in method.platforms and (case.device is not Device.CPU or kernels.get(platform)):
        return None
    return f"vLLM has no {case.method} kernels for {case.where}."


def missing_package(case: Case) -> str | None:
    """Methods that ask for a package which vLLM does not come with."""
    if (method := _method(case)) and method.packages:
        return f"vLLM needs {' and '.join(method.packages)} for {case.method} weights, which its environment has not."
    return None


def unknown_algorithm(case: Case) -> str | None:
    """ModelOpt's algorithms that vLLM has no code for."""
    quantization, told = case.facts.quantization, known().algorithms
    if case.method.startswith("modelopt") and quantization and quantization.scheme == "":
        return "vLLM reads ModelOpt's weights by quant_algo, which this checkpoint does not state."
    algorithm = (quantization.scheme or "").upper().replace(" ", "_") if quantization else ""
    if case.method.startswith("modelopt") and algorithm and algorithm not in told:
        return f"vLLM does not read ModelOpt's {algorithm}, only {', '.join(sorted(told))}."
    return None


def unknown_word(case: Case) -> str | None:
    """What a checkpoint says of its quantization in words that vLLM does not know."""
    known_words = known().words.get(case.method, {})
    for stated in case.facts.quantization.stated if case.facts.quantization else ():
        key, _, word = stated.partition("=")
        if (words := known_words.get(key)) and word not in words:
            shown = "".join(letter if letter.isprintable() else "?" for letter in word)
            if len(words) > MOST_WORDS:
                near = difflib.get_close_matches(word, words, n=3, cutoff=0)
                return (
                    f"vLLM does not read {case.method} weights whose {key} is {shown}; near it are {', '.join(near)}."
                )
            return f"vLLM does not read {case.method} weights whose {key} is {shown}, only {', '.join(sorted(words))}."
    return None


def lacking(case: Case) -> str | None:
    """Keys without which vLLM refuses a checkpoint's quantization."""
    stated = case.facts.quantization.stated if case.facts.quantization else ()
    for word in stated:
        key, _, there = word.partition("=")
        for group in known().needs.get(case.method, ()) if key == "has" else ():
            if {*group} <= {*STATES} and {*group}.isdisjoint(there.split()):
                return f"vLLM needs {_or(group)} in the configuration of {called(case)}, and this model states none."
    return None


def below_method_floor(case: Case) -> str | None:
    """A method's own capability floor."""
    if not case.on_nvidia:
        return None
    made = [name for _, name in groups(case)]
    made += [name for word, name in SCHEMES.items() if word in case.scheme and not made]
    schemes = [known().schemes[name] for name in made if name]
    floors = known().floors.get(case.method, {})
    schemes += [floors.get(word, 0) for word in words(case, "scheme")]
    method = _method(case)
    floor = max(WHEEL_FLOOR, *schemes, method.capability if method else 0)
    if case.capability < floor:
        return f"{called(case)} needs compute capability {sm(floor)} in vLLM, and {case.where} is older."
    return None


def gptq_limits(case: Case) -> str | None:
    """GPTQ: symmetric, of certain bits; act-order only with one group per row."""
    quantization, method = case.facts.quantization, _method(case)
    if case.method != "gptq" or quantization is None or method is None:
        return None
    bits = sorted({width for width, _ in method.weights})
    if round(quantization.bits) not in bits:
        return f"vLLM runs GPTQ with {_or(bits)} bits, this model has {round(quantization.bits)}."
    if quantization.symmetric is False and (round(quantization.bits), False) not in method.weights:
        return "vLLM runs symmetric GPTQ only, this model is asymmetric (sym: false)."
    if quantization.desc_act and quantization.group_size not in (None, -1):
        return (
            f"vLLM does not run GPTQ with act-order in groups (desc_act: true, group_size: {quantization.group_size})."
        )
    return None


def fp8_limits(case: Case) -> str | None:
    """FP8 in blocks: activations are quantized while it runs."""
    if case.method == "fp8" and case.scheme.startswith("block") and not case.scheme.endswith("dynamic"):
        return "vLLM runs FP8 in blocks with activation_scheme dynamic only."
    return None


def awq_limits(case: Case) -> str | None:
    """AWQ: of certain bits."""
    method = _method(case)
    if case.method != "awq" or method is None:
        return None
    bits = sorted(width for (width,) in method.weights)
    if round(case.bits) not in bits:
        return f"vLLM runs AWQ with {_or(bits)} bits, this model has {round(case.bits)}."
    return None


def kv_cache_limits(case: Case) -> str | None:
    """What compressed-tensors states of the KV cache: 8-bit floats, a scale for all or for every head."""
    stated = case.facts.quantization.kv_cache if case.facts.quantization else ""
    if case.method == "compressed-tensors" and stated and stated not in kv_cache.ELEMENTS:
        return f"vLLM keeps the KV cache of compressed-tensors in FP8 only, this checkpoint states {stated}."
    return None


def cpu_limits(case: Case) -> str | None:
    """vLLM on a CPU: AVX2 at least; FP8 needs AMX; weight-only formats are 4-bit and symmetric."""
    if case.device is not Device.CPU:
        return None
    flags = case.machine.cpu_flags
    if case.machine.architecture == "x86_64" and "avx2" not in flags:
        return "vLLM needs a CPU with AVX2, and this one has none."
    heads = {group.k_dim for group in case.facts.layers if group.kind in (LayerKind.FULL, LayerKind.SLIDING)}
    if unable := heads - CPU_HEADS - {0}:
        return f"vLLM on a CPU has no attention kernels for heads of {min(unable)} numbers."
    fp8 = "fp8" in (case.method, case.loading.quantization.lower()) or "fp8" in case.scheme
    if (fp8 or "float-quantized" in case.scheme) and "amx_tile" not in flags:
        return "vLLM runs FP8 on CPUs with AMX only, and this one has none."
    if case.method in {"gptq", "awq"} and round(case.bits) != 4:
        return f"vLLM on a CPU runs 4-bit {case.method.upper()} only, this model has {round(case.bits)} bits."
    if case.method == "compressed-tensors" and any(w in case.scheme for w in ("fp4", "w8a16", "mxfp")):
        return f"vLLM has no CPU kernels for {called(case)}."
    return None


def amd_limits(case: Case) -> str | None:
    """Weights alone on AMD: kernels are for 4 bits, and for 8 where the rest is fp16 (triton_w4a16.py, exllama.py)."""
    if case.device is not Device.AMD:
        return None
    made, bits = {name for _, name in groups(case)}, round(case.bits)
    if "CompressedTensorsW4A8Int" in made:
        return f"vLLM has no kernels for {called(case)} on {case.where}."
    alone = case.method == "gptq" or "CompressedTensorsWNA16" in made
    if alone and bits != 4 and (bits, case.facts.dtype) != (8, "F16"):
        return f"vLLM on AMD runs weights alone in 4 bits, or in 8 with fp16, this model has {bits} bits."
    return None


def no_usable_dtype(case: Case) -> str | None:
    """Before SM 8.0 there is no bf16, and some models overflow fp16."""
    if case.on_nvidia and case.capability < BF16_FLOOR and case.facts.model_type in known().no_float16:
        return f"{case.facts.model_type} models overflow fp16, and {case.where} has no bf16."
    return None


RULES: tuple[Rule, ...] = (
    needs_plugin,
    unknown_architecture,
    own_configuration,
    not_a_generator,
    unable_pooling,
    unknown_rope,
    window_in_some_layers,
    below_wheel_floor,
    deprecated_method,
    unknown_method,
    missing_package,
    unknown_algorithm,
    unknown_word,
    lacking,
    no_scheme,
    no_experts,
    no_auto_round,
    divided,
    below_method_floor,
    gptq_limits,
    fp8_limits,
    awq_limits,
    kv_cache_limits,
    cpu_limits,
    amd_limits,
    no_usable_dtype,
)


def sees(case: Case) -> bool:
    """Whether vLLM has code for the pictures that the model sees."""
    return case.facts.vision is not None and "Multimodal" in known().architectures.get(architecture(case), ())


def notes(case: Case) -> tuple[str, ...]:
    """What running it here changes."""
    said = [cache] if (cache := kv_cache.said(kv_cache.kept(case.facts))) else []
    if sees(case):
        said.append(f"{TAKES_PICTURES}.")
    if known().borrows(case.architectures):
        said.append(f"vLLM has no code of its own for the architecture {case.architecture}: it runs Transformers'.")
    if case.on_nvidia and case.capability < BF16_FLOOR and case.facts.dtype == "BF16":
        said.append(f"bf16 weights run as fp16: {case.where} has no bf16.")
    fp8 = case.method == "fp8" or "fp8" in case.scheme or "float-quantized" in case.scheme
    if case.on_nvidia and case.capability < 89 and fp8:
        said.append(f"FP8 weights are computed in 16 bits (W8A16): {case.where} has no FP8 units.")
    if case.on_nvidia and case.capability < 100 and "nvfp4" in f"{case.method} {case.scheme}".replace("-fp4", "-nvfp4"):
        said.append(f"NVFP4 weights are computed in 16 bits (W4A16): {case.where} has no FP4 units.")
    return tuple(said)


def _method(case: Case) -> Method | None:
    return known().methods.get(case.method)


def _or(words: Iterable[object]) -> str:
    return " or ".join(map(str, words))
