"""When Hugging Face Transformers runs a model: what its auto classes and quantizers told (capabilities.json)."""

from __future__ import annotations

import difflib
from pathlib import Path

from llmservice_runtime.engines.base.capabilities import Capabilities, Method, capabilities
from llmservice_runtime.engines.base.case import Case, Rule, is_gguf, sm
from llmservice_runtime.engines.transformers.install.recipe import QUANTIZERS
from llmservice_runtime.formats.facts import ModelFormat, Task
from llmservice_runtime.formats.weight_files import LOADED
from llmservice_runtime.machine.machine import GPU_DEVICES, Device

OWN_NAMES = {"bitsandbytes": "bitsandbytes-4bit", "modelopt-fp4": "nvfp4"}
"""Methods that Transformers' table has under another name."""

MADE = {"BitsAndBytesInt8": "bitsandbytes-8bit", "BitsAndBytesNF4": "bitsandbytes-4bit", "FP8": "fp8"}
"""What weights can be made while they are loaded -> the method that does it (serve/quantize.py)."""

RENAMED_ROPES = frozenset({"su", "mrope", "xdrope"})
"""Names that a model's config class replaces by one that Transformers has (phi3, qwen2_vl, hunyuan_vl)."""

BNB_TYPES = ("nf4", "fp4")
"""What bitsandbytes can unpack (its `dequantize_4bit`)."""

CROSS_ENCODERS = frozenset(
    {
        "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet",
        "roberta", "xlm-roberta", "xlm-roberta-xl",
    }
)  # fmt: skip
"""Of model types those whose classifier looks at both texts of a pair; decoders want a template of their own."""


def known() -> Capabilities:
    """What Transformers told of itself."""
    return capabilities(Path(__file__).parent)


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


def unfound_weights(case: Case) -> str | None:
    """Transformers finds weights by their names, or those of an index; vLLM takes every file."""
    weights = [name for name in case.facts.files if name.endswith(LOADED)]
    names = known().weight_files
    if is_gguf(case) or not weights or not {*names}.isdisjoint(case.facts.files):
        return None
    return f"Transformers looks for weights in {' or '.join(names)}, and here they are in {weights[0][:80]}."


def unknown_architecture(case: Case) -> str | None:
    """Architectures that no auto class has. Those go by model_type: MptForCausalLM in other letters will do."""
    name, told = case.architecture, known()
    if not name or case.runs_own_code or any(told.runs(one) or told.spelled(one) for one in case.architectures):
        return None
    return f"Transformers {told.versions['transformers']} does not know the architecture {name}."


def own_configuration(case: Case) -> str | None:
    """Configurations that are code of the repository: it is not run, and then nothing is loaded."""
    kind = case.facts.model_type
    if case.facts.remote_code and not case.loading.remote_code and kind and kind not in known().configs:
        return f"the configuration of {kind[:80]} is code of the repository, which is not run."
    return None


def unknown_rope(case: Case) -> str | None:
    """Types of RoPE that only another engine has."""
    told = known()
    for kind in case.facts.rope_types:
        if kind not in told.rope and kind not in RENAMED_ROPES and not case.runs_own_code:
            return f"Transformers {told.versions['transformers']} has no RoPE of the type {kind[:40]}."
    return None


def encoder_decoder(case: Case) -> str | None:
    """Models with an encoder, by their class; BartForCausalLM is the decoder alone."""
    told = known()
    shape, kinds = told.configs.get(case.facts.model_type), told.architectures.get(case.architecture, frozenset())
    if shape and shape.has.get("is_encoder_decoder") is True and "CausalLM" not in kinds:
        return f"{case.architecture or case.facts.model_type} has an encoder; Transformers runs decoders alone here."
    return None


def encoder_alone(case: Case) -> str | None:
    """Encoders saved as a class that writes text: Transformers loads them, and they see what they are to write."""
    if case.architecture in known().decoders and not case.facts.decoder and not case.facts.pools:
        return (
            f"{case.architecture} reads in both directions and writes no text where config.json does not say "
            "is_decoder: true."
        )
    return None


def unknown_method(case: Case) -> str | None:
    """Methods that Transformers has no quantizer for."""
    if case.method and _method(case) is None:
        return f"Transformers has no loader for {case.method} weights."
    return None


def unknown_type(case: Case) -> str | None:
    """bitsandbytes has two types of 4 bits."""
    if case.method == "bitsandbytes" and case.bits == 4 and case.scheme not in BNB_TYPES:
        return f"bitsandbytes has no 4-bit type {case.scheme[:20]!r}, only {' and '.join(BNB_TYPES)}."
    return None


def unknown_word(case: Case) -> str | None:
    """What a checkpoint says of its quantization in words that Transformers does not read, or torchao no longer: names
    of its configurations, and their fields."""
    told = known().words.get(case.method, {})
    for stated in case.facts.quantization.stated if case.facts.quantization else ():
        key, _, word = stated.partition("=")
        if key in told and word not in told[key]:
            shown = "".join(letter if letter.isprintable() else "?" for letter in word)
            near = difflib.get_close_matches(word, told[key], n=3, cutoff=0)
            all_of_them = len(told[key]) <= len(near)
            known_ones = f", only {' or '.join(sorted(near))}" if all_of_them else f"; near it are {', '.join(near)}"
            return f"Transformers does not read {case.method} weights whose {key} is {shown}{known_ones}."
    return None


def missing_package(case: Case) -> str | None:
    """Methods whose packages the environment lacks."""
    method = _method(case)
    missing = [name for name in method.packages if name not in QUANTIZERS] if method else []
    if missing:
        packages = " and ".join(name.replace("_", "-") for name in missing)
        return f"{case.method} weights need {packages}, which the Transformers environment of this release has not."
    return None


def unable_method(case: Case) -> str | None:
    """Methods whose quantizer refuses the device, or gives up what was saved by unpacking the weights."""
    method = _method(case)
    if method is None:
        return None
    does = method.gpu if case.device in GPU_DEVICES else method.cpu
    if does == "Refuses":
        elsewhere = " on GPUs only" if method.gpu == "Loads" else ", but only makes them"
        return f"Transformers runs {case.method} weights{elsewhere}."
    if does == "Unpacks" or (case.on_nvidia and case.capability < method.capability):
        return f"Transformers would unpack {case.method} weights to 16 bits in memory on {case.where}."
    return None


def unable_conversion(case: Case) -> str | None:
    """Weights that its quantizer refuses to make here, or would leave as they are (quantizer_finegrained_fp8.py)."""
    wanted = case.loading.quantization
    if not wanted or case.facts.quantization is not None:
        return None
    floor = known().methods[MADE[wanted]].capability
    if wanted == "FP8" and case.device is Device.CPU:
        return "Transformers makes weights FP8 on a GPU only."
    if case.on_nvidia and case.capability < floor:
        return f"Transformers needs compute capability {sm(floor)} to make weights {wanted}, and {case.where} is older."
    return None


def old_cpu(case: Case) -> str | None:
    """bitsandbytes needs AVX2 on x86."""
    x86 = case.device is Device.CPU and case.machine.architecture == "x86_64"
    bitsandbytes = "bitsandbytes" in (case.method, MADE.get(case.loading.quantization, "")[:12])
    if x86 and bitsandbytes and "avx2" not in case.machine.cpu_flags:
        return "bitsandbytes needs a CPU with AVX2, and this one has none."
    return None


def old_gpu(case: Case) -> str | None:
    """PyTorch's CUDA 13 builds start at SM 7.5, its CUDA 12 ones at 7.0; bitsandbytes at 6.0."""
    if case.on_nvidia and case.capability < 70:
        return f"PyTorch has no kernels for {case.where}; compute capability 7.0 is the oldest."
    return None


def unable_pooling(case: Case) -> str | None:
    """Vectors and scores that would not be what the model's files mean."""
    facts = case.facts
    if not facts.pools:
        return None
    if facts.unpooled:
        return facts.unpooled
    if not facts.pooling:
        return "the files do not say how a text's vectors become one (modules.json, 1_Pooling/config.json)."
    if facts.task is Task.RERANK and not facts.asked and facts.model_type not in CROSS_ENCODERS:
        return (
            f"Transformers has no scores of {facts.model_type[:80] or 'this model'} here; it scores by encoders, and by"
            " decoders whose modules.json has a part LogitScore."
        )
    if case.loading.quantization:
        return "weights are made smaller while they are loaded for models that write text alone."
    return None


RULES: tuple[Rule, ...] = (
    needs_gguf_engine,
    unable_pooling,
    mistral_format,
    unfound_weights,
    unknown_architecture,
    own_configuration,
    encoder_decoder,
    encoder_alone,
    unknown_rope,
    unknown_method,
    unknown_type,
    unknown_word,
    unable_method,
    unable_conversion,
    missing_package,
    old_cpu,
    old_gpu,
)


def _method(case: Case) -> Method | None:
    return known().methods.get(OWN_NAMES.get(case.method, case.method))
