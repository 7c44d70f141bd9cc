"""Every spelling of a quantization configuration, as one value. docs/formats.md lists the methods."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from llmservice_runtime.formats import schemes
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import Quantization
from llmservice_runtime.formats.kv_type import kv_cache_type
from llmservice_runtime.formats.ranges import damaged

Raw = Mapping[str, Any]

NOMINAL_BITS = {
    "fbgemm_fp8": 8.0, "fp_quant": 4.0, "experts_int8": 8.0, "moe_wna16": 4.0, "humming": 4.0, "deepseek_v4_fp8": 8.0,
    "aqlm": 2.0, "hqq": 4.0, "eetq": 8.0, "higgs": 4.0, "quanto": 8.0, "spqr": 3.0, "vptq": 2.0, "bitnet": 2.0,
    "sinq": 4.0, "fouroversix": 4.0, "metal": 4.0, "gemma": 8.0, "mxfp4": 4.0, "mxfp8": 8.0,
}  # fmt: skip
"""Bits per weight where a configuration states none."""

ALIASES = {
    "compressed_tensors": "compressed-tensors", "intel/auto-round": "auto-round", "autoround": "auto-round",
    "auto_round": "auto-round", "gptq_marlin": "gptq", "awq_marlin": "awq", "marlin": "gptq",
    "fbgemm-fp8": "fbgemm_fp8",
    "modelopt_fp8": "modelopt", "nvfp4": "modelopt_fp4", "bnb": "bitsandbytes", "gpt_oss_mxfp4": "mxfp4",
}  # fmt: skip

MODELOPT = {
    "FP8": ("modelopt", "FP8", 8.0), "FP8_PER_CHANNEL_PER_TOKEN": ("modelopt", "FP8", 8.0),
    "FP8_PB_WO": ("modelopt", "FP8", 8.0), "NVFP4": ("modelopt_fp4", "NVFP4", 4.0),
    "W4A16_NVFP4": ("modelopt_fp4", "NVFP4", 4.0), "W4A8_AWQ": ("modelopt", "W4A8", 4.0),
    "MXFP8": ("mxfp8", "MXFP8", 8.0), "MIXED_PRECISION": ("modelopt_mixed", "mixed precision", 8.0),
}  # fmt: skip
"""`quant_algo` -> method, name, bits. Others keep their own name, for engines to refuse by it."""

WORDS = {
    "fp8": ("activation_scheme",), "gptq": ("group_size",), "awq": ("group_size", "q_group_size"),
    "auto-round": ("bits", "packing_format", "backend"), "inc": ("bits", "packing_format", "backend"),
}  # fmt: skip
"""Keys of a method whose words engines have lists of, as they stand at its top."""
STATES = (
    "bits", "w_bit", "group_size", "q_group_size", "desc_act", "sym", "zero_point", "activation_scheme", "export",
)  # fmt: skip
"""Keys that engines can't do without: `has` of the words that are kept names those that are there."""
MOST_WORDS = 32
BITS = frozenset({"bits", "w_bit", "nbits", "num_bits", "nbits_per_codebook"})
GROUPS = frozenset({"group_size", "q_group_size", "in_group_size"})
DEPTH = 4
"""Of a configuration that says things of single layers."""


def quantization(raw: Raw) -> Quantization | None:
    """The value of a `quantization_config` (or of a side file with the same keys); None where it says nothing.

    Raises UnsupportedModel for EXL2, EXL3 and MLX, which no engine of ours loads, and for numbers that can't be.
    """
    raw = _modelopt_body(raw)
    _check_algorithm(raw)
    method = _method(raw)
    if method in {"exl2", "exl3"}:
        raise unsupported_exl(method.upper())
    if not method:
        return None
    _check_numbers(raw)
    found = _READERS.get(method, _generic)(method, raw)
    stated = tuple(dict.fromkeys(_stated(method, raw)))[:MOST_WORDS]
    return replace(found, kv_cache=kv_cache_type(method, raw), stated=stated)


def unsupported_exl(name: str) -> UnsupportedModel:
    """The refusal of ExLlama's formats."""
    return UnsupportedModel(
        f"the weights are {name}, which only ExLlama loads.", "Use a GPTQ, AWQ, FP8 or GGUF version of the model."
    )


def unsupported_mlx() -> UnsupportedModel:
    """The refusal of MLX's quantized format."""
    return UnsupportedModel(
        "the weights are quantized for MLX, which runs on Apple GPUs only.",
        "Use the original model, or a GPTQ, AWQ, FP8 or GGUF version of it.",
    )


def _check_algorithm(raw: Raw) -> None:
    """UnsupportedModel where ModelOpt's algorithm is no text: it would be taken for none."""
    value = raw.get("quant_algo")
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise damaged(f"the model's quantization says quant_algo: {str(value)[:40]!r}, which is no name.")


def _check_numbers(raw: Raw, depth: int = DEPTH) -> None:
    """Bits and group sizes, wherever they stand; UnsupportedModel where one can't be."""
    for key, value in raw.items():
        if isinstance(value, dict) and depth:
            _check_numbers(value, depth - 1)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in BITS and value is not None and not (number and 1 <= value <= 32):
            raise damaged(f"the model's quantization says {key}: {str(value)[:40]}, which is no number of bits.")
        if key in GROUPS and value is not None and not isinstance(value, list) and not (number and value >= -1):
            raise damaged(f"the model's quantization says {key}: {str(value)[:40]}, which is no size of a group.")
        if key == "weight_block_size" and value is not None and not _is_block(value):
            raise damaged(f"the model's quantization says {key}: {str(value)[:40]}, which is no block of two sides.")


def _is_block(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(side) is int and side >= 1 for side in value)


def _stated(method: str, raw: Raw) -> Iterator[str]:
    """`key=word` of what engines have lists for."""
    yield f"has={' '.join(key for key in STATES if key in raw)}"
    for key in WORDS.get(method, ()):
        yield from _word(key, raw.get(key))
    if method == "compressed-tensors":
        yield from _word("format", raw.get("format"))
        for group in (one for one in _dict(raw, "config_groups").values() if isinstance(one, dict)):
            layout = group.get("format") or raw.get("format")
            yield from _word("scheme", schemes.compressed(group, raw.get("format")))
            yield from _word("format", group.get("format"))
            for part in ("weights", "input_activations", "output_activations"):
                for key in ("type", "strategy"):
                    yield from _word(key, _dict(group, part).get(key))
            yield from _word(f"{str(layout)[:40]}.num_bits", _dict(group, "weights").get("num_bits"))
        for of_experts in schemes.of_experts(raw):
            yield from _word("experts", schemes.compressed(of_experts, raw.get("format")))
    if method == "gptq":
        yield from _rules(raw)
    if method in ("auto-round", "inc"):
        for word in (schemes.auto_round(raw), *schemes.auto_round_layers(raw)):
            yield from _word("auto_round", word)
        for word in schemes.auto_round_acts(raw):
            yield from _word("auto_round_act", word)
    if method == "quark":
        of_layers = (_dict(raw, key).values() for key in ("layer_quant_config", "layer_type_quant_config"))
        for group in (_dict(raw, "global_quant_config") or raw, *itertools.chain(*of_layers)):
            yield from _word("scheme", schemes.quark(group) if isinstance(group, dict) else "")
    if method == "torchao":
        kind = raw.get("quant_type")
        yield from _word("quant_type", ", ".join(map(str, kind)) if isinstance(kind, dict) else kind)
        for name, version, fields in schemes.torchao(kind):
            yield from _word("config", name)
            yield from _word("version", f"{name}.{version}")
            for field in fields:
                yield from _word("field", f"{name}.{field}")
    if "quant_algo" in raw:
        if isinstance(raw.get("quantization"), dict):  # a file of its own
            yield from _word("quantization.quant_algo", raw["quant_algo"])
        for layer in _dict(raw, "quantized_layers").values():
            yield from _word(
                "quantized_layers.quant_algo", layer.get("quant_algo") if isinstance(layer, dict) else None
            )


def _rules(raw: Raw) -> Iterator[str]:
    """GPTQModel's `dynamic`: what rules for some layers have instead."""
    for pattern, rule in _dict(raw, "dynamic").items():
        if isinstance(rule, dict) and not pattern.startswith("-:"):
            groups = rule.get("group_size", raw.get("group_size")) != -1
            yield from _word("dynamic.bits", rule.get("bits"))
            yield from _word("dynamic.desc_act", bool(rule.get("desc_act", raw.get("desc_act"))) and groups)


def _word(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, str | int) and value != "":
        word = str(value)[:160]
        yield f"{key}={word.upper() if key.endswith('quant_algo') else word}"


def _method(raw: Raw) -> str:
    stated = raw.get("quant_method")
    method = stated.lower() if isinstance(stated, str) else ""
    method = ALIASES.get(method, method)
    algorithm = raw.get("quant_algo")
    if isinstance(algorithm, str) and (not method or method.startswith("modelopt") or _by_modelopt(raw)):
        return MODELOPT.get(algorithm.upper(), ("modelopt", "", 0))[0]
    if method:
        return method
    if "config_groups" in raw:
        return "compressed-tensors"
    if raw.get("load_in_4bit") or raw.get("load_in_8bit"):
        return "bitsandbytes"
    if "w_bit" in raw or (raw.get("version") in {"gemm", "gemv", "GEMM", "GEMV"} and "zero_point" in raw):
        return "awq"
    if "desc_act" in raw and "bits" in raw:
        return "gptq"
    if "autoround_version" in raw:
        return "auto-round"
    return ""


def _by_modelopt(raw: Raw) -> bool:
    producer = raw.get("producer")
    return isinstance(producer, dict) and producer.get("name") == "modelopt"


def _modelopt_body(raw: Raw) -> Raw:
    """hf_quant_config.json keeps its keys below `quantization`."""
    inner = raw.get("quantization")
    return {**raw, **inner} if isinstance(inner, dict) and "quant_algo" in inner else raw


def _number(raw: Raw, *keys: str) -> int | None:
    """The first stated integer; group sizes may be -1."""
    for key in keys:
        value = raw.get(key)
        if type(value) is int and -1 <= value <= 1 << 20:
            return value
    return None


def _flag(raw: Raw, key: str) -> bool | None:
    value = raw.get(key)
    return value if isinstance(value, bool) else None


def _gptq(method: str, raw: Raw) -> Quantization:
    bits = _number(raw, "bits", "w_bit") or 4
    return Quantization(
        method,
        f"GPTQ-Int{bits}",
        bits,
        group_size=_number(raw, "group_size", "q_group_size"),
        symmetric=_flag(raw, "sym"),
        desc_act=_flag(raw, "desc_act"),
        scheme=str(raw.get("checkpoint_format") or raw.get("format") or "gptq")[:40],
    )


def _awq(method: str, raw: Raw) -> Quantization:
    bits = _number(raw, "bits", "w_bit") or 4
    zero_point = _flag(raw, "zero_point")
    return Quantization(
        method,
        f"AWQ-Int{bits}",
        bits,
        group_size=_number(raw, "group_size", "q_group_size"),
        symmetric=None if zero_point is None else not zero_point,
        scheme=str(raw.get("version") or "gemm").lower()[:40],
    )


def _fp8(method: str, raw: Raw) -> Quantization:
    block = raw.get("weight_block_size")
    blocked = _is_block(block)
    scheme = f"block {block[0]}x{block[1]}" if blocked and isinstance(block, list) else "per tensor"
    activation = str(raw.get("activation_scheme") or "dynamic")[:20]
    return Quantization(
        method, "FP8", 8, _number({"g": block[0]}, "g") if blocked and block else None, scheme=f"{scheme}, {activation}"
    )


def _compressed(method: str, raw: Raw) -> Quantization:
    groups = raw.get("config_groups")
    group = next((g for g in groups.values() if isinstance(g, dict)), {}) if isinstance(groups, dict) else {}
    weights, inputs = _dict(group, "weights"), _dict(group, "input_activations")
    stated = raw.get("format") or group.get("format")
    if stated == "mixed-precision":
        stated = group.get("format") or stated
    layout = stated if isinstance(stated, str) else "dense"
    default = 4 if "pack" in layout else 8
    bits = _number(weights, "num_bits") or default
    unstated = 16 if group or layout not in {"int-quantized", "float-quantized"} else 8
    activations = _number(inputs, "num_bits") or unstated
    block = weights.get("block_structure")
    if isinstance(block, str) and (sides := re.fullmatch(r"(\d{1,6})x(\d{1,6})", block)):  # as it was written first
        block = [int(side) for side in sides.groups()]
    side = {"side": block[-1]} if isinstance(block, list) and block else {}
    group_size = _number(weights, "group_size") or _number(side, "side")
    floating = weights.get("type") == "float" or "float" in layout or "fp" in layout
    name = f"W{bits}A{activations}"
    if "mxfp" in layout or (floating and group_size == 32):
        name = f"MXFP{bits}"
    elif floating and bits == 4:
        name = "NVFP4"
    elif floating:
        name = "W4A8-FP8" if bits == 4 else "FP8"
    elif inputs.get("type") == "float":
        name += "-FP8"
    order = weights.get("actorder")
    return Quantization(
        method,
        name,
        bits,
        group_size=group_size,
        symmetric=_flag(weights, "symmetric"),
        desc_act=order in {"group", True} if order is not None else None,
        scheme=f"{layout} W{bits}A{activations}"[:80],
    )


def _bitsandbytes(method: str, raw: Raw) -> Quantization:
    eight = raw.get("load_in_8bit") or raw.get("_load_in_8bit")
    if eight and (raw.get("load_in_4bit") or raw.get("_load_in_4bit")):
        raise damaged("the model's quantization says load_in_8bit and load_in_4bit, which exclude each other.")
    if eight:
        return Quantization(method, "BNB-Int8", 8, scheme="int8")
    kind = str(raw.get("bnb_4bit_quant_type") or "fp4").lower()[:20]
    return Quantization(method, f"BNB-{kind.upper()}", 4, group_size=_number(raw, "blocksize") or 64, scheme=kind)


def _modelopt(method: str, raw: Raw) -> Quantization:
    algorithm = str(raw.get("quant_algo") or "").upper()[:40]
    named = next((row for row in MODELOPT.values() if row[0] == method), ("", method, 8.0))
    if algorithm:  # NVFP4 or W8A8_SQ_PER_CHANNEL
        digits = re.search(r"(?:W|INT|FP)(\d)", algorithm)
        named = ("", algorithm, float(digits[1]) if digits and int(digits[1]) else 8.0)
    _, name, bits = MODELOPT.get(algorithm, named)
    stated = algorithm or (name if method == "mxfp8" else "")  # that one alone is read without
    return Quantization(method, name, bits, group_size=_number(raw, "group_size"), scheme=stated)


def _torchao(method: str, raw: Raw) -> Quantization:
    kind: Any = raw.get("quant_type")
    data: Any = raw
    if isinstance(kind, dict):
        kind = kind.get("default") if isinstance(kind.get("default"), dict) else kind
        data = kind.get("_data") if isinstance(kind.get("_data"), dict) else {}
        kind = kind.get("_type")
    scheme = str(kind or "unknown")[:60]
    lower = scheme.lower()
    bits = 4 if "int4" in lower or "fp4" in lower else next((n for n in range(1, 8) if f"uint{n}" in lower), 8)
    return Quantization(method, f"torchao {scheme}", bits, group_size=_number(data, "group_size"), scheme=scheme)


def _quark(method: str, raw: Raw) -> Quantization:
    group = _dict(raw, "global_quant_config") or raw
    weight, inputs = _dict(group, "weight"), _dict(group, "input_tensors")
    dtype = str(weight.get("dtype") or "int8").lower()[:20]
    digits = re.search(r"\d+", dtype)
    bits = int(digits[0]) if digits else 8
    taken = re.search(r"\d+", str(inputs.get("dtype") or "16"))
    name = {"fp4": "MXFP4", "fp8_e4m3": "FP8"}.get(dtype, dtype.upper())
    scheme = f"{name} W{bits}A{taken[0] if taken else 16}"
    return Quantization(
        method, f"Quark {name}", bits, group_size=_number(weight, "group_size"), symmetric=_flag(weight, "symmetric"),
        scheme=scheme,
    )  # fmt: skip


def _autoround(method: str, raw: Raw) -> Quantization:
    bits = _number(raw, "bits") or 4
    packing = str(raw.get("packing_format") or raw.get("backend") or "auto_round:auto_gptq")[:40]
    return Quantization(
        method, f"AutoRound-Int{bits}", bits, group_size=_number(raw, "group_size"), symmetric=_flag(raw, "sym"),
        scheme=packing,
    )  # fmt: skip


def _aqlm(method: str, raw: Raw) -> Quantization:
    group, books = _number(raw, "in_group_size") or 8, _number(raw, "num_codebooks") or 1
    bits = books * (_number(raw, "nbits_per_codebook") or 16) / max(1, group)
    return Quantization(method, f"AQLM {bits:g}-bit", bits, group_size=group)


def _generic(method: str, raw: Raw) -> Quantization:
    """Methods that state bits and group size under usual names, or none at all."""
    nested = _dict(_dict(raw, "quant_config"), "weight_quant_params")  # hqq
    bits = _number(raw, "bits", "nbits", "w_bit", "num_bits") or _number(nested, "nbits")
    stated = raw.get("weights") or raw.get("forward_dtype") or raw.get("weight_dtype")
    digits = re.search(r"\d+", stated[:40]) if isinstance(stated, str) else None
    found = float(bits or (digits and int(digits[0])) or NOMINAL_BITS.get(method, 4.0))
    group = _number(raw, "group_size", "q_group_size") or _number(nested, "group_size")
    name = method.upper() if method in {"mxfp4", "mxfp8"} else f"{method} {found:g}-bit"
    scheme = stated[:40] if isinstance(stated, str) else None
    return Quantization(method, name[:60], max(1.0, min(found, 16.0)), group_size=group, scheme=scheme)


def _dict(raw: Raw, key: str) -> Raw:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


_READERS: dict[str, Callable[[str, Raw], Quantization]] = {
    "gptq": _gptq,
    "awq": _awq,
    "fp8": _fp8,
    "compressed-tensors": _compressed,
    "bitsandbytes": _bitsandbytes,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "modelopt_mixed": _modelopt,
    "torchao": _torchao,
    "quark": _quark,
    "auto-round": _autoround,
    "inc": _autoround,
    "aqlm": _aqlm,
}
