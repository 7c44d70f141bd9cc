"""Config classes: what an engine's library has where config.json says nothing. Told by the engines, read here.

`Classes` come from above (engines/*/capabilities.json, `engines.registry.config_classes`): this room knows no engine.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where multimodal models keep the configuration of their language model, when no class says where."""
DEPTH = 3
HEADS_OF = frozenset({"head_dim", "global_head_dim", "attention_head_dim", "kv_channels", "hidden_size_per_head"})
"""What the size of a head is called. Beside a part whose class has no such field it is of another one (what hears)."""


@dataclass(frozen=True, slots=True)
class Part:
    """The configuration nested in another one that the language model is sized by."""

    at: str
    """Its key."""
    type: str
    """Its model_type where it states none, or where it is `fixed`."""
    fixed: bool = False
    """Whatever it says of itself, it is of this type."""
    omitted: Mapping[str, Any] = field(default_factory=dict)
    """What it has instead of its class's defaults where config.json leaves it out."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """What it has instead of its class's defaults where config.json has it."""


@dataclass(frozen=True, slots=True)
class ConfigClass:
    """One class, by its model_type."""

    has: Mapping[str, Any]
    """Field -> default; None = none, or derived from other fields (KV heads from heads, head size from both)."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Common name of a field -> the class's own, which both may stand in config.json."""
    layer_types: tuple[str, ...] = ()
    """The unit that the layers of the class's default repeat."""
    part: Part | None = None


Classes = Mapping[str, ConfigClass]
UNKNOWN = ConfigClass({})
"""A class that nobody knows: remote code. Nothing is invented for it."""


def config_class(told: Mapping[str, Any]) -> ConfigClass:
    """From capabilities.json, as engines/base/config_classes.py wrote it."""
    part = told.get("part")
    nested = Part(type=part["is"], **{key: part[key] for key in part if key != "is"}) if part else None
    return ConfigClass(told["has"], told.get("names", {}), tuple(told.get("layer_types", ())), nested)


@dataclass(frozen=True, slots=True)
class Completed:
    """A configuration with what its class adds. `values` is all that is known of the language model, `own` what stands
    in its own part alone, which is where engines look for the context length."""

    values: Mapping[str, Any]
    own: Mapping[str, Any]
    layer_types: tuple[str, ...]


def completed(root: Mapping[str, Any], classes: Classes) -> Completed:
    """The language model's part of `root` over the whole, each with its class's defaults under what is stated.

    Several libraries of classes are a ChainMap, the one asked first at its front.

    A stated null is stated: it stays. Where a part's class is known, a field of that class which the part leaves out
    has the class's default and not what stands beside the part.
    """
    classes = _library(root, classes)
    kind = _class_of(root, classes)
    part, own = root, _filled(root, kind, {})
    values: Mapping[str, Any] = own
    for _ in range(DEPTH):
        key = _key_of(part, kind)
        if key is None:
            break
        if isinstance(found := part.get(key), dict):
            kind, defaults = _nested_class(found, kind, classes)
            part, own = found, _filled(found, kind, defaults)
            others = kind.has.keys() | (HEADS_OF if kind is not UNKNOWN else frozenset())
            values = {name: value for name, value in values.items() if name not in others} | own
        else:  # left out: old configurations are flat, the part's fields stand at the top
            assert kind.part is not None
            defaults = kind.part.omitted
            kind = classes.get(kind.part.type, UNKNOWN)
            own = _filled(part, kind, defaults)
            values = {**values, **own}
    return Completed(values, own, kind.layer_types)


def _library(root: Mapping[str, Any], classes: Classes) -> Classes:
    """Without the libraries before the first that has the whole's class: its parts are of the same one, or of those
    behind it."""
    stated = root.get("model_type")
    known = isinstance(stated, str) and stated in classes
    while known and isinstance(classes, ChainMap) and stated not in classes.maps[0]:
        classes = classes.parents
    return classes


def _class_of(part: Mapping[str, Any], classes: Classes) -> ConfigClass:
    stated = part.get("model_type")
    return classes.get(stated, UNKNOWN) if isinstance(stated, str) else UNKNOWN


def _key_of(part: Mapping[str, Any], kind: ConfigClass) -> str | None:
    """The key of the nested part; also where the class has one that is left out."""
    wanted = (kind.part.at, *NESTED) if kind.part else NESTED
    stated = next((key for key in wanted if isinstance(part.get(key), dict)), None)
    return stated or (kind.part.at if kind.part else None)


def _nested_class(
    part: Mapping[str, Any], parent: ConfigClass, classes: Classes
) -> tuple[ConfigClass, Mapping[str, Any]]:
    """The part's class, and what its parent gives it in place of that class's defaults."""
    stated = part.get("model_type")
    if parent.part is None or (isinstance(stated, str) and stated != parent.part.type and not parent.part.fixed):
        return _class_of(part, classes), {}
    kind = classes.get(parent.part.type, UNKNOWN)
    return kind, {"model_type": parent.part.type, **parent.part.given} if kind is not UNKNOWN else {}


def _filled(part: Mapping[str, Any], kind: ConfigClass, instead: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults under what is stated, each under both of its names."""
    filled = {**kind.has, **instead, **part}
    for common, own in kind.names.items():
        if common in part and own not in part:
            filled[own] = part[common]
        elif common not in part and own in filled:
            filled[common] = filled[own]
    return filled
