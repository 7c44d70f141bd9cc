"""LoRA adapters as services load them: what their headers say, and what of them no engine here does."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from llmservice_runtime.contract.plain import plain
from llmservice_runtime.formats.adapters import base_in_config, base_in_gguf, method_of
from llmservice_runtime.formats.candidates import read_gguf
from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.facts import WORD
from llmservice_runtime.formats.gguf import GgufHeader
from llmservice_runtime.formats.jsontext import parse_object
from llmservice_runtime.formats.lora_facts import LoraFacts as LoraFacts
from llmservice_runtime.formats.lora_facts import LoraFormat as LoraFormat
from llmservice_runtime.formats.lora_facts import Target as Target
from llmservice_runtime.formats.ranges import damaged
from llmservice_runtime.formats.safetensors import read_header
from llmservice_runtime.formats.tensors import LAYER, Tensor
from llmservice_runtime.sources.files import FileEntry, ModelFiles

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
CONFIG_BYTES = 4 << 20
MOST_RANK, MOST_ALPHA = 4096, 1e38
MOST_PATTERNS, LONGEST_PATTERN, MOST_REPEATS = 4096, 200, 2
_SLOW = re.compile(r"\)[*+?{]|\\\d|\(\?P=")
"""Repeats of groups, and references to what they matched."""
STORED = frozenset({"F32", "F16", "BF16", "Q8_0"})
"""Types of a GGUF adapter's matrices: those that llama.cpp's converter writes. Not all others can be multiplied."""
_PART = re.compile(
    r"(?:base_model\.model\.|base_model\.)?(?P<name>.+)\.lora_(?P<part>[AB])(?:\.[A-Za-z0-9_-]+)?\.weight"
)
EMBEDDINGS = "token_embd.weight"
_MERGE = "Merge it into its base model (peft: merge_and_unload) and serve the result."


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """What adapter_config.json says of a LoRA that is served."""

    base: str
    rank: int
    alpha: float
    alphas: Sequence[tuple[re.Pattern[str], float]]
    """Modules of another alpha, as PEFT reads them: the first whose pattern is all of a name, or its last parts."""
    root: bool
    """Scaled by alpha / sqrt(rank) (rank-stabilized), else alpha / rank."""
    weights: str = WEIGHTS

    def scale(self, module: str, rank: int) -> float:
        """What the product of a module's matrices is multiplied with."""
        alpha = next((alpha for pattern, alpha in self.alphas if pattern.fullmatch(module)), self.alpha)
        return alpha / math.sqrt(rank) if self.root else alpha / rank


def read_config(raw: bytes) -> PeftConfig:
    """adapter_config.json; UnsupportedModel for what is no LoRA, or one of a kind that no engine here does."""
    fields = parse_object(raw, CONFIG, constants=True)
    method = method_of(fields)
    if method != "LoRA":
        raise UnsupportedModel(f"it is a {method} adapter; LoRA adapters are loaded, no others.", _MERGE)
    refused = {
        "bias": ("none", "it trained biases too (bias: {})"),
        "lora_bias": (False, "its matrices have biases (lora_bias)"),
        "modules_to_save": (None, "it replaces whole modules (modules_to_save: {})"),
        "trainable_token_indices": (None, "it changes embeddings of tokens (trainable_token_indices)"),
        "fan_in_fan_out": (False, "its matrices are transposed (fan_in_fan_out)"),
        "layer_replication": (None, "it repeats layers of its base (layer_replication)"),
        "use_qalora": (False, "it is a QA-LoRA (use_qalora)"),
        "target_parameters": (None, "it changes parameters that are no linear layers (target_parameters)"),
        "alora_invocation_tokens": (None, "it is an activated LoRA (alora_invocation_tokens)"),
    }
    for key, (usual, said) in refused.items():
        if (value := fields.get(key)) and value != usual:
            raise UnsupportedModel(f"{said.format(str(value)[:80])}, which engines leave out.", _MERGE)
    rank, alpha = fields.get("r"), fields.get("lora_alpha")
    if type(rank) is not int or not 0 < rank <= MOST_RANK:
        raise damaged(f"{CONFIG} has the impossible rank {str(rank)[:40]} (`r`).")
    if not _is_alpha(alpha):
        raise damaged(f"{CONFIG} has the impossible value {str(alpha)[:40]} for `lora_alpha`.")
    return PeftConfig(base_in_config(fields), rank, float(alpha), _alphas(fields), fields.get("use_rslora") is True)


def _alphas(fields: Mapping[str, Any]) -> list[tuple[re.Pattern[str], float]]:
    """`alpha_pattern`: no more than there may be modules, and none that takes long to match, as who wrote it is a
    stranger and an engine waits for it."""
    found = fields.get("alpha_pattern") or {}
    if not isinstance(found, dict) or not all(map(_is_alpha, found.values())):
        raise damaged(f"{CONFIG} has no numbers in `alpha_pattern`.")
    if len(found) > MOST_PATTERNS:
        raise damaged(f"{CONFIG} has {len(found)} patterns in `alpha_pattern`.")
    return [(_pattern(key), float(value)) for key, value in found.items()]


def _is_alpha(value: Any) -> TypeGuard[float]:
    """Whether 32 bits hold it; also a whole number may be too large for any float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST_ALPHA


def _pattern(key: str) -> re.Pattern[str]:
    try:
        if len(key) <= LONGEST_PATTERN and len(re.findall(r"[*+?{]", key)) <= MOST_REPEATS and not _SLOW.search(key):
            return re.compile(rf"(.*\.)?({key})")
    except re.error:
        pass
    raise damaged(f"{CONFIG} has {key[:40]!r} in `alpha_pattern`, which is no pattern of names.")


def part_of(tensor: str) -> tuple[str, str]:
    """(module, `A` or `B`) of a tensor of PEFT's; UnsupportedModel for any other."""
    found = _PART.fullmatch(tensor)
    if found is None:
        what = "magnitudes (DoRA)" if "magnitude" in tensor else f"{plain(tensor)[:WORD]}"
        raise UnsupportedModel(f"its weights have {what}, which is no matrix of a LoRA.", _MERGE)
    return found["name"], found["part"]


def inspect_adapter(files: ModelFiles) -> LoraFacts:
    """Facts of the adapter in `files`, from headers alone. UnsupportedModel with a reason and a remedy; SourceError
    passes through."""
    entries = {entry.path: entry for entry in files.entries()}
    if CONFIG in entries:
        return _peft(files, entries)
    ggufs = fnmatch.filter(entries, "*.gguf")
    if len(ggufs) == 1:
        (path,) = ggufs
        return _gguf(read_gguf(files, path, entries[path].size), entries[path])
    if ggufs:
        raise UnsupportedModel(
            f"there are {len(ggufs)} GGUF files ({', '.join(sorted(ggufs)[:5])}).", "Point the URI at one adapter."
        )
    listed = ", ".join(sorted(entries)[:10]) or "no files at all"
    raise UnsupportedModel(
        f"there is no adapter: neither {CONFIG} nor a GGUF among {listed}.",
        "Point the URI at a LoRA adapter as PEFT saves it, or at a GGUF of one.",
    )


def _peft(files: ModelFiles, entries: Mapping[str, FileEntry]) -> LoraFacts:
    if entries[CONFIG].size > CONFIG_BYTES:
        raise damaged(f"{CONFIG} has {entries[CONFIG].size} bytes.")
    config = read_config(files.read(CONFIG, 0, entries[CONFIG].size))
    if WEIGHTS not in entries:
        pickle = next((path for path in entries if path.endswith((".bin", ".pt"))), "")
        other = f", only {pickle}, which may run code when it is read" if pickle else ""
        raise UnsupportedModel(
            f"there is no {WEIGHTS}{other}.", "Save the adapter as safetensors (peft: save_pretrained)."
        )
    size = entries[WEIGHTS].size
    header = read_header(lambda start, length: files.read(WEIGHTS, start, length), size, WEIGHTS)
    pairs: dict[str, dict[str, Tensor]] = {}
    for tensor in header.tensors:
        name, part = part_of(tensor.name)
        pairs.setdefault(name, {})[part] = tensor
    widths = _all_widths(WEIGHTS, pairs)
    return LoraFacts(
        LoraFormat.PEFT,
        config.base,
        "",
        max(rank for rank, _, _ in widths.values()),
        _targets((name.rpartition(".")[2], inputs, outputs) for name, (_, inputs, outputs) in widths.items()),
        _layers(widths),
        sum(tensor.nbytes for tensor in header.tensors),
        (CONFIG, WEIGHTS),
        entries[CONFIG].size + size,
    )


def _all_widths(path: str, pairs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, tuple[int, int, int]]:
    if not pairs:
        raise damaged(f"{path} has no matrices.")
    return {name: _widths(name, parts) for name, parts in pairs.items()}


def _widths(name: str, parts: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Rank, input and output width of one module."""
    a, b = parts.get("A"), parts.get("B")
    if a is None or b is None or not len(a.shape) == len(b.shape) == 2 or a.shape[0] != b.shape[1]:
        raise damaged(f"the matrices of {plain(name)[:WORD]} do not go together.")
    if 0 in (*a.shape, *b.shape):
        raise damaged(f"the matrices of {plain(name)[:WORD]} are empty.")
    return a.shape[0], a.shape[1], b.shape[0]


def _gguf(header: GgufHeader, entry: FileEntry) -> LoraFacts:
    kind, method = header.values.get("general.type"), header.values.get("adapter.type")
    if kind != "adapter":
        raise UnsupportedModel(f"{entry.path} is a model, or a part of one, not an adapter.", "Name it in spec.model.")
    if method != "lora":
        raise UnsupportedModel(f"{entry.path} is an adapter of the type {str(method)[:40]!r}; LoRA is loaded.", _MERGE)
    alpha = header.values.get("adapter.lora.alpha", 0.0)
    if type(alpha) is not float or not _is_alpha(alpha):
        raise damaged(f"{entry.path} has the impossible value {str(alpha)[:40]} for `adapter.lora.alpha`.")
    found: dict[str, dict[str, Tensor]] = {}
    for tensor in header.tensors:
        name, _, part = tensor.name.rpartition(".lora_")
        if part not in ("a", "b"):
            if tensor.name.endswith("_norm.weight"):
                raise UnsupportedModel(f"{entry.path} changes norms, which engines leave out.", _MERGE)
            raise damaged(f"tensor {plain(tensor.name)[:80]!r} of {entry.path} is none of a LoRA.")
        if "_exps." in name:
            raise UnsupportedModel(f"{entry.path} changes experts, which plans keep no room for.", _MERGE)
        if tensor.dtype not in STORED:
            said = f"{entry.path} is stored as {tensor.dtype}; {', '.join(sorted(STORED))} are loaded, no others."
            raise UnsupportedModel(said, "Convert the adapter anew, to F16.")
        embeds = part == "a" and name == EMBEDDINGS  # rows are looked up there: it lies the other way round
        shape = tensor.shape if embeds else tensor.shape[::-1]
        found.setdefault(name, {})[part.upper()] = tensor._replace(shape=shape)
    widths = _all_widths(entry.path, found)
    return LoraFacts(
        LoraFormat.GGUF,
        base_in_gguf(header.values),
        str(header.values.get("general.architecture", "")),
        max(rank for rank, _, _ in widths.values()),
        _targets(
            (name.removesuffix(".weight").rpartition(".")[2], i, o)
            for name, (_, i, o) in widths.items()
            if name != EMBEDDINGS
        ),
        _layers(widths),
        sum(tensor.nbytes for tensor in header.tensors),
        (entry.path,),
        entry.size,
    )


def _targets(found: Iterable[tuple[str, int, int]]) -> tuple[Target, ...]:
    return tuple(Target(*target) for target in sorted(set(found)))


def _layers(names: Iterable[str]) -> int:
    numbers = [int(found[1]) for name in names if (found := LAYER.search(name)) and len(found[1]) < 6]
    return max(numbers, default=-1) + 1
