"""Room for LoRA adapters: how much a plan keeps, and whether an adapter goes into it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.estimate.overhead import feed_forward
from llmservice_runtime.formats.facts import LayerKind, ModelFacts, ModelFormat
from llmservice_runtime.formats.lora_facts import LoraFacts, LoraFormat, Target

LEAST_COUNT = 4
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM can be started for, as far as they are sensible; a plan's room has one of them on every engine."""
LEAST_RANK = 16
_EMBEDDINGS = frozenset({"embed_tokens", "wte", "word_embeddings", "token_embd"})
SLACK = 4
"""Modules of some models are wider than those that room is counted by."""
HEADS = frozenset({"lm_head", "output"})
_FROM_HIDDEN = frozenset(
    {"q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj", "attn_q", "attn_k", "attn_v",
     "attn_qkv", "ffn_gate", "ffn_up", "lm_head", "output"}
)  # fmt: skip
"""Modules that read what every layer passes on, whatever the model..."""
_TO_HIDDEN = frozenset({"o_proj", "down_proj", "attn_output", "ffn_down"})
"""...and those that write it."""


@dataclass(frozen=True, slots=True)
class AdapterRoom:
    """What a plan has room for: so many adapters of at most this rank. 0 of 0 = none."""

    count: int = 0
    rank: int = 0

    def holds(self, count: int, rank: int) -> bool:
        """Whether so many of at most this rank go in: then nothing has to be planned anew."""
        return count <= self.count and rank <= self.rank


class AdapterFit(StrEnum):
    """What it takes to serve one more adapter."""

    FITS = "Fits"
    """Nothing: it is loaded while the model serves."""
    NEEDS_ROOM = "NeedsRoom"
    """A plan with more room, so new replicas."""
    REFUSED = "Refused"
    """It can't be served with this model, or this engine."""


@dataclass(frozen=True, slots=True)
class AdapterVerdict:
    """What of one adapter is decided, and why, where it is not loaded at once."""

    fit: AdapterFit
    failure: FailureClass | None = None
    reason: str = ""
    remedy: str = ""


def adapter_bytes(facts: ModelFacts, room: AdapterRoom, width: int) -> int:
    """Bytes of a full room: two matrices of its rank for each of a layer's seven, `width` bytes an element."""
    ends = 9 * facts.hidden_size + 3 * feed_forward(facts)
    return room.count * room.rank * ends * width * facts.layer_count


def room_for(ranks: Iterable[int], least: AdapterRoom | None = None) -> AdapterRoom:
    """Room for adapters of these ranks (0 = not known yet), with some to spare: twice as many each time it grows.

    No adapter, no room. Never less than `least`.
    """
    known = list(ranks)
    least = least or AdapterRoom()
    if not known and not least.count:
        return AdapterRoom()
    count = max(LEAST_COUNT, least.count)
    while count < len(known):
        count *= 2
    rank = max(LEAST_RANK, least.rank, *known)
    return AdapterRoom(count, next((step for step in RANKS if step >= rank), rank))


@dataclass(frozen=True, slots=True)
class Takes:
    """What an engine, called `label`, takes of adapters: formats, and why not this one (empty = it does)."""

    label: str
    formats: Collection[LoraFormat]
    objection: str = ""


def weigh(adapter: LoraFacts, model: ModelFacts, engine: Takes, room: AdapterRoom, count: int) -> AdapterVerdict:
    """Whether this adapter serves with this model on such an engine, as one of `count` that are wanted."""
    if refusal := _refusal(adapter, model, engine):
        return refusal
    if adapter.rank > RANKS[-1]:
        return _refused(f"its rank is {adapter.rank}; at most {RANKS[-1]} is served", "Train it with a lower rank.")
    if not room.holds(count, adapter.rank):
        larger = room_for([adapter.rank] * count, room)
        said = f"{room.count} adapters of rank {room.rank}" if room.count else "no adapters"
        reason = f"the plan has room for {said}; {larger.count} of rank {larger.rank} take new replicas"
        return AdapterVerdict(AdapterFit.NEEDS_ROOM, FailureClass.DOES_NOT_FIT, f"{reason[0].upper()}{reason[1:]}.")
    return AdapterVerdict(AdapterFit.FITS)


def _refusal(adapter: LoraFacts, model: ModelFacts, engine: Takes) -> AdapterVerdict | None:
    if model.pools:
        return _refused(f"the model answers with vectors or scores (task {model.task})", "Merge it into the model.")
    if adapter.format not in engine.formats:
        reason = f"it is stored as {adapter.format}, which {engine.label} does not read"
        return _refused(reason, f"Use one that is stored as {' or '.join(sorted(engine.formats))}.")
    if model.format is ModelFormat.GGUF and adapter.architecture not in ("", model.architecture):
        return _foreign(
            adapter, f"it is for the architecture {adapter.architecture}, the model is {model.architecture}"
        )
    if adapter.layers > model.layer_count > 0:
        return _foreign(adapter, f"it changes layer {adapter.layers - 1}, the model has {model.layer_count} layers")
    for target in adapter.targets:
        if target.name in _EMBEDDINGS:
            return _refused(f"it changes the token embeddings ({target.name})", "Merge it into the model.")
        if wrong := _misfit(target, model):
            return _foreign(adapter, wrong)
    if model.hidden_size and adapter.weight_bytes > _most_bytes(adapter, model):
        size = f"{adapter.weight_bytes / 1e9:,.1f} GB"
        return _foreign(adapter, f"it has {size} of weights, far more than rank {adapter.rank} takes here")
    return _refused(engine.objection, TRAIN) if engine.objection else None


def _most_bytes(adapter: LoraFacts, model: ModelFacts) -> int:
    """No adapter of its rank has more, in 32 bits, whatever its modules are: a replica would run out of memory."""
    layers = adapter_bytes(model, AdapterRoom(1, adapter.rank), 4) * max(1, model.mixture_experts)
    return SLACK * (layers + 4 * adapter.rank * (model.vocab_size + model.hidden_size))


TRAIN = "Train it on the projections of attention and feed-forward alone, or merge it into the model."


def _misfit(target: Target, model: ModelFacts) -> str:
    """How a module of the adapter and the model's differ, as far as headers tell; empty = they don't."""
    hidden, width = model.hidden_size, 0
    if target.name in _FROM_HIDDEN:
        width = target.inputs
    elif target.name in _TO_HIDDEN:
        width = target.outputs
    if hidden and width and width != hidden:
        return f"{target.name} is for a model of width {width}, this one has {hidden}"
    heads = {(g.kv_heads * g.k_dim, g.kv_heads * g.v_dim) for g in model.layers if g.kind in _PLAIN and g.kv_heads}
    if len(heads) == 1 and target.name in _KEYS | _VALUES:
        keys, values = next(iter(heads))
        wanted = keys if target.name in _KEYS else values
        if wanted and target.outputs != wanted:
            return f"{target.name} has {target.outputs} rows, this model's {wanted}"
    return ""


_PLAIN = frozenset({LayerKind.FULL, LayerKind.SLIDING})
_KEYS, _VALUES = frozenset({"k_proj", "attn_k"}), frozenset({"v_proj", "attn_v"})


def _foreign(adapter: LoraFacts, reason: str) -> AdapterVerdict:
    base = f" It says that its base is {adapter.base}." if adapter.base else ""
    return AdapterVerdict(
        AdapterFit.REFUSED,
        FailureClass.UNSUPPORTED_FORMAT,
        f"It is an adapter of another model: {reason}.{base}",
        "Use an adapter of this very model.",
    )


def _refused(reason: str, remedy: str) -> AdapterVerdict:
    said = f"{reason[0].upper()}{reason[1:]}."
    return AdapterVerdict(AdapterFit.REFUSED, FailureClass.UNSUPPORTED_FORMAT, said, remedy)
