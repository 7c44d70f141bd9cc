"""What Quark and compressed-tensors do to weights and to what goes into them, in one word that engines judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

NONE = "none"
ACTS = ("act_bits", "act_data_type", "act_group_size", "act_sym", "act_dynamic", "activation_scheme", "fmt")


def quark(group: Mapping[str, Any]) -> str:
    """Quark: `fp8_e4m3 per_channel / fp8_e4m3 dynamic`; empty where weights stay, or are quantized twice."""
    weights, inputs = _single(group.get("weight")), _single(group.get("input_tensors"))
    if not isinstance(weights, dict) or isinstance(inputs, list):
        return ""
    size = f" {weights.get('group_size')}" if weights.get("qscheme") == "per_group" and "fp" in _dtype(weights) else ""
    taken = f"{_dtype(inputs)}{' dynamic' if inputs.get('is_dynamic') else ''}" if inputs else NONE
    return f"{_dtype(weights)} {str(weights.get('qscheme'))[:20]}{size} / {taken}"


def _single(tensor: Any) -> Any:
    """Of a list with one entry that."""
    one = tensor[0] if isinstance(tensor, list) and len(tensor) == 1 else tensor
    return one if isinstance(one, dict) else [] if isinstance(one, list) else None


def _dtype(tensor: Mapping[str, Any]) -> str:
    return str(tensor.get("dtype"))[:20]


def compressed(group: Mapping[str, Any], layout: Any) -> str:
    """compressed-tensors: `pack-quantized: int4 group 128 / int8 token dynamic / none`; empty where a group is of
    attention alone, which engines leave out. `layout` is the format of what states none itself.

    What a part leaves out has the default of compressed-tensors' own `QuantizationArgs`.
    """
    targets = group.get("targets")
    if isinstance(targets, list) and len(targets) == 1 and str(targets[0]).endswith("Attention"):
        return ""
    parts = (group.get(key) for key in ("weights", "input_activations", "output_activations"))
    return f"{str(group.get('format') or layout)[:24]}: {' / '.join(map(_part, parts))}"


def auto_round(raw: Mapping[str, Any]) -> str:
    """AutoRound: `int 4 128 auto_round:auto_gptq auto`, what is left out by its defaults; a packing that is not stated
    is `none`."""
    group, packing = raw.get("group_size"), raw.get("packing_format")
    words = [
        str(raw.get("data_type") or "int")[:16],
        str(raw.get("bits"))[:4],
        "x".join(map(str, group))[:16] if isinstance(group, list) else str(group)[:16],
        "asymmetric" if raw.get("sym") is False else "",
        str(packing)[:32] if packing is not None else NONE,
        str(raw.get("backend") or "auto")[:16],
    ]
    return " ".join(word for word in words if word)


def auto_round_layers(raw: Mapping[str, Any]) -> Iterator[str]:
    """The same of single layers (`extra_config`) that have fewer than 16 bits."""
    layers = raw.get("extra_config")
    for layer in layers.values() if isinstance(layers, dict) else ():
        if isinstance(layer, dict):
            one = {**raw, **{key: layer[key] for key in ("bits", "group_size", "sym") if key in layer}}
            if isinstance(one.get("bits"), int) and one["bits"] < 16:
                yield auto_round(one)


def auto_round_acts(raw: Mapping[str, Any]) -> Iterator[str]:
    """AutoRound's words of what goes into layers: `act_bits 8`, as far as they are stated."""
    for key in ACTS:
        if key in raw:
            yield f"{key} {str(raw[key])[:32]}"


def torchao(kind: Any, depth: int = 8) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Names of torchao's configurations with the version of each and the fields that are given to it, inner ones too.
    One that states no version has the first."""
    inner: Iterable[Any] = kind if isinstance(kind, list) else ()
    if isinstance(kind, dict):
        name, fields = kind.get("_type"), kind.get("_data")
        if isinstance(name, str) and name.endswith("Config"):
            yield (
                name[:80],
                str(kind.get("_version", 1))[:8],
                [str(field)[:40] for field in fields] if isinstance(fields, dict) else [],
            )
        inner = kind.values()
    for value in inner if depth else ():
        yield from torchao(value, depth - 1)


def of_experts(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The groups of compressed-tensors that experts are of: those that name them, else those of all linear layers.
    None where experts are left as they are."""
    groups: list[Mapping[str, Any]] = [one for one in _values(raw.get("config_groups")) if isinstance(one, dict)]
    if any(map(_names_experts, _values(raw.get("ignore")))):
        return []
    naming = [group for group in groups if any(map(_names_experts, _values(group.get("targets"))))]
    return naming or [group for group in groups if "Linear" in _values(group.get("targets"))]


def _names_experts(target: Any) -> bool:
    return isinstance(target, str) and "experts" in target.replace("shared_experts", "")


def _values(of: Any) -> list[Any]:
    return list(of.values()) if isinstance(of, dict) else of if isinstance(of, list) else []


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return NONE
    size, moves = part.get("group_size"), part.get("dynamic")
    usual = "tensor" if size is None else "channel" if size == -1 else "group"
    order = part.get("actorder")
    words = [
        f"{str(part.get('type') or 'int').lower()[:8]}{str(part.get('num_bits') or 8)[:4]}",
        str(part.get("strategy") or usual).lower()[:16],
        str(size)[:8] if size is not None and size != -1 else "",
        "asymmetric" if part.get("symmetric") is False else "",
        "" if not moves else "dynamic" if moves is True else str(moves).lower()[:8],
        "uint8" if str(part.get("scale_dtype")).removeprefix("torch.") == "uint8" else "",
        "ordered" if order is True or str(order).lower() in ("group", "dynamic") else "",
    ]
    return " ".join(word for word in words if word)
