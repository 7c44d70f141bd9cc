"""What an engine told of itself, as values: capabilities.json beside its rules, read once.

Each engine's generate.py fills the parts that it has; the others are empty.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmservice_runtime.engines.base.generated import FILE
from llmservice_runtime.formats.classes import ConfigClass, config_class


@dataclass(frozen=True, slots=True)
class Method:
    """A quantization method of checkpoints.

    `capability` is the lowest of NVIDIA's (SM times ten). `platforms` are those that the engine lists it for: CPU,
    CUDA, ROCM, XPU. `weights` are the kinds it has kernels for (vLLM's GPTQ: bits and whether symmetric), empty = not
    told. `cpu` and `gpu` say what a loader does there: Loads, Unpacks (to 16 bits) or Refuses.
    """

    capability: int = 0
    platforms: frozenset[str] = frozenset()
    weights: tuple[tuple[Any, ...], ...] = ()
    deprecated: bool = False
    cpu: str = "Loads"
    gpu: str = "Loads"
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """An option of the command line. `also`: its other spellings.

    `type`: flag, str, int, float, size (1k, 2M), size_or_auto, json (any value), object (a JSON object), str_or_object
    or lora (name=path, or an object). `choices` is empty where any value goes; `default` None = decided at start.
    `values` is argparse's: `+` one or more, `*` any number, `?` one or none, empty = one. `bounds` are those of a
    number: ge, gt, le, lt.
    """

    type: str = "str"
    also: tuple[str, ...] = ()
    choices: tuple[str | int, ...] = ()
    default: bool | int | float | str | None = None
    values: str = ""
    bounds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TensorType:
    """`block` elements take `bytes` bytes. A number that was given up has no name and no elements."""

    name: str
    block: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """Attention: the types of KV cache that it takes, and tokens of a block as multiples of one of `blocks`."""

    types: frozenset[str]
    blocks: tuple[int, ...]

    def takes(self, kind: str, block: int | None) -> bool:
        """None: any block."""
        return kind in self.types and (block is None or any(block % each == 0 for each in self.blocks))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One engine at its locked version. Mappings are keyed by the engine's own names."""

    engine: str
    versions: Mapping[str, str]
    architectures: Mapping[str, frozenset[str]]
    """Architecture -> what it is registered as (Generation, CausalLM, ...); empty where the engine does not say."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Architecture -> the last version that had it."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Architecture -> address of the plug-in that has it."""
    decoders: frozenset[str] = frozenset()
    """Architectures that write text where config.json says `is_decoder`, and else read in both directions."""
    by_transformers: frozenset[str] = frozenset()
    """Architectures that the engine lacks and runs through Transformers' code."""
    model_types: frozenset[str] = frozenset()
    """Whose configuration needs no code of the repository."""
    conversions: tuple[tuple[str, str, str], ...] = ()
    """Ends of architectures' names that stand for each other, with vLLM's --runner and --convert, in order."""
    methods: Mapping[str, Method] = field(default_factory=dict)
    """By the names of config.json's quant_method, `-` for `_`."""
    online: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What it can convert 16-bit weights to while loading -> which layers: linear, moe."""
    algorithms: Mapping[str, str] = field(default_factory=dict)
    """ModelOpt's quant_algo -> the method that reads it."""
    words: Mapping[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """Method -> key of a checkpoint's quantization -> its words that are read; other keys take any."""
    floors: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Method -> `scheme` among its words -> lowest capability, where that is above the method's."""
    needs: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Method -> groups of keys of a checkpoint's quantization, of each of which one must be there."""
    compressed: Mapping[str, Any] = field(default_factory=dict)
    """How many schemes of compressed-tensors were `asked`, and a `digest` of the answers; for `experts` the same."""
    auto_round: Mapping[str, Any] = field(default_factory=dict)
    """Of AutoRound's checkpoints."""
    schemes: Mapping[str, int] = field(default_factory=dict)
    """Classes of methods that have several schemes -> lowest capability."""
    rope: Mapping[str, frozenset[frozenset[str]]] = field(default_factory=dict)
    """Type of RoPE -> groups of keys, of each of which one must be there."""
    kernels: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """Kind of a linear layer's weights -> platform -> kernels in order of preference."""
    pipelined: frozenset[str] = frozenset()
    """Architectures whose layers can be spread over a pipeline of GPUs."""
    adapted: frozenset[str] = frozenset()
    """Architectures that LoRA adapters can be loaded for."""
    checkpointed: frozenset[str] = frozenset()
    """Architectures that keep a third state of each sequence, of a prompt that is being read."""
    weight_files: tuple[str, ...] = ()
    """Names of which a model's folder must have one, in order; empty = the engine takes others."""
    kv_caches: Mapping[str, Mapping[str, Mapping[str, Kernel]]] = field(default_factory=dict)
    """Platform -> what a layer keeps (heads, latents, sparse: latents that an indexer picks from) -> kernels."""
    kv_types: Mapping[str, int] = field(default_factory=dict)
    """Types of a KV cache -> bytes of an element, from above."""
    no_float16: frozenset[str] = frozenset()
    """Model types whose activations overflow 16-bit floats."""
    options: Mapping[str, Option] = field(default_factory=dict)
    parsers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    configs: Mapping[str, ConfigClass] = field(default_factory=dict)
    """By model_type."""
    tensor_types: Mapping[int, TensorType] = field(default_factory=dict)
    file_types: Mapping[int, str] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    """Keys of a GGUF that the library knows, `{arch}` for the architecture."""

    def runs(self, architecture: str) -> bool:
        """Whether the engine takes it: as registered, converted from a sibling, or by Transformers' code."""
        return self.has(architecture) or architecture in self.by_transformers

    def borrows(self, architectures: Sequence[str]) -> bool:
        """Whether it runs a model that names these by Transformers' code: by the first of them, where none is
        registered. What writes text is not converted from a sibling then."""
        if not self.by_transformers.intersection(architectures[:1]) or not self.architectures.keys().isdisjoint(
            architectures
        ):
            return False
        return self.end(architectures[0])[1] != "pooling" or not any(map(self.has, architectures))

    def has(self, architecture: str) -> bool:
        """Whether the engine has code of its own for it."""
        return bool(self.kept_as(architecture))

    def kept_as(self, architecture: str) -> str:
        """The name under which the engine has it: its own, or that of the sibling that it is converted from; empty =
        none."""
        if architecture in self.architectures:
            return architecture
        end, _ = self.end(architecture)
        siblings = (architecture.removesuffix(end) + other for other, _, _ in self.conversions if end)
        return next((name for name in siblings if name in self.architectures), "")

    def end(self, architecture: str) -> tuple[str, str]:
        """The end of a name that conversions know, and the runner that it stands for; both empty = none."""
        return next(((end, runner) for end, runner, _ in self.conversions if architecture.endswith(end)), ("", ""))

    def spelled(self, architecture: str) -> str:
        """How the engine spells a name that it knows in other letters, as a remark in brackets; empty = not at all."""
        known = (name for names in (self.architectures, self.by_transformers) for name in names)
        return next((f" (it knows {name})" for name in known if name.lower() == architecture.lower()), "")


@functools.cache
def capabilities(folder: Path) -> Capabilities:
    """What the engine of this folder told. The file is generated: make generate-engines."""
    told: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    architectures = told["architectures"]
    kinds = architectures if isinstance(architectures, dict) else dict.fromkeys(architectures, ())
    return Capabilities(
        engine=told["engine"],
        versions=told["versions"],
        architectures={name: frozenset(of) for name, of in kinds.items()},
        **{name: read(told[name]) for name, read in _READERS.items() if name in told},
    )


def _method(told: Mapping[str, Any]) -> Method:
    weights = tuple(tuple(kind) for kind in told.get("weights", ()))
    lists = {"platforms": frozenset(told.get("platforms", ())), "packages": tuple(told.get("packages", ()))}
    return Method(**{**told, **lists, "weights": weights})


def _option(told: Mapping[str, Any]) -> Option:
    return Option(**{**told, "also": tuple(told.get("also", ())), "choices": tuple(told.get("choices", ()))})


def _kernel(told: Mapping[str, Any]) -> Kernel:
    return Kernel(frozenset(told["types"]), tuple(told["blocks"]))


def _tuples(told: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in told.items()}


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "dropped": dict,
    "elsewhere": dict,
    "decoders": frozenset,
    "by_transformers": frozenset,
    "model_types": frozenset,
    "conversions": lambda told: tuple(map(tuple, told)),
    "methods": lambda told: {name.replace("_", "-"): _method(one) for name, one in told.items()},
    "online": _tuples,
    "algorithms": dict,
    "words": lambda told: {
        method.replace("_", "-"): {key: frozenset(words) for key, words in keys.items()}
        for method, keys in told.items()
    },
    "floors": lambda told: {method.replace("_", "-"): dict(words) for method, words in told.items()},
    "needs": lambda told: {method.replace("_", "-"): tuple(map(tuple, groups)) for method, groups in told.items()},
    "compressed": dict,
    "auto_round": dict,
    "schemes": dict,
    "rope": lambda told: {kind: frozenset(map(frozenset, groups)) for kind, groups in told.items()},
    "kernels": lambda told: {kind: _tuples(platforms) for kind, platforms in told.items()},
    "pipelined": frozenset,
    "adapted": frozenset,
    "checkpointed": frozenset,
    "weight_files": tuple,
    "kv_caches": lambda told: {
        platform: {kind: {name: _kernel(one) for name, one in kernels.items()} for kind, kernels in kinds.items()}
        for platform, kinds in told.items()
    },
    "kv_types": dict,
    "no_float16": frozenset,
    "options": lambda told: {name: _option(one) for name, one in told.items()},
    "parsers": _tuples,
    "configs": lambda told: {model_type: config_class(one) for model_type, one in told.items()},
    "tensor_types": lambda told: {int(number): TensorType(**one) for number, one in told.items()},
    "file_types": lambda told: {int(number): name for number, name in told.items()},
    "keys": frozenset,
}
