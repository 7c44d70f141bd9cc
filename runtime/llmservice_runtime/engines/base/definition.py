"""Everything that planning, installing and supervising ask of an engine. A value; making one imports no engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.engines.base.caches import Caches
from llmservice_runtime.engines.base.case import Case, Rule
from llmservice_runtime.engines.base.recipe import NoEnvironment, Recipe
from llmservice_runtime.estimate.adapters import AdapterRoom
from llmservice_runtime.estimate.budget import EngineMemory, Layout, Shape
from llmservice_runtime.formats.classes import Classes
from llmservice_runtime.formats.facts import ModelFacts, Quantization
from llmservice_runtime.formats.lora_facts import LoraFacts, LoraFormat
from llmservice_runtime.machine.machine import Device


@dataclass(frozen=True, slots=True)
class CoarserVersion:
    """A smaller version that hubs have of most models: `name` as in `a 4-bit AWQ`, bits per weight of whole files."""

    name: str
    bits: float
    quantization: Quantization


def nothing_to_say(case: Case) -> tuple[str, ...]:
    """No notes."""
    return ()


def no_classes() -> Classes:
    """None that the others lack."""
    return {}


def nothing_against(case: Case, args: Sequence[str]) -> None:
    """No contradictions."""


def nothing_against_environment(environ: Mapping[str, str]) -> None:
    """Any environment."""


@dataclass(frozen=True, slots=True)
class EngineDefinition:
    """One engine. Optional fields are for what only some engines have."""

    label: str
    """As people write it."""
    rules: tuple[Rule, ...]
    """Why it can't run a model on a device, in the order they are told."""
    reason: Callable[[Case], str]
    """The sentence why it was chosen."""
    preference: Callable[[ModelFacts, Device], int]
    """Its place among the engines that can; the lowest is chosen. Those that are there have 10, 20 and 30."""
    memory: Callable[[Sequence[str]], EngineMemory]
    """spec.engine.args -> what it takes with them. UserError when it would refuse them."""
    devices: frozenset[Device]
    """What a build made on the machine itself is for."""
    gguf: bool | None = None
    """Whether it reads GGUF alone (True) or anything but GGUF (False): what is taken of a repository that has both,
    when this engine is asked for. None = it may be either."""
    pools: bool = False
    """Whether it makes vectors and scores too (tasks Embedding and Rerank); its rules say of which models."""
    recipe: Recipe | NoEnvironment | None = None
    """How its environment is made; None = not part of this release on one machine."""
    notes: Callable[[Case], tuple[str, ...]] = nothing_to_say
    """What running the model there needs or changes."""
    contradiction: Callable[[Case, Sequence[str]], None] = nothing_against
    """Raises UserError when spec.engine.args contradict the model or the device, though the engine would take them."""
    environment: Callable[[Mapping[str, str]], None] = nothing_against_environment
    """Raises UserError when spec.engine.env has what the engine can't be run with here."""
    arguments: Callable[[Case, Shape, Sequence[str]], tuple[str, ...]] = lambda case, shape, args: tuple(args)
    """plan and spec.engine.args -> command line, beyond the runtime's own settings: every option once."""
    adapter_arguments: Callable[[AdapterRoom], tuple[str, ...]] = lambda room: ()
    """Arguments of its own without which there is no such room; those of spec.engine.args win."""
    adapter_formats: frozenset[LoraFormat] = frozenset({LoraFormat.PEFT})
    """What it reads LoRA adapters in."""
    adapter_objection: Callable[[LoraFacts, ModelFacts], str] = lambda adapter, model: ""
    """Why it would not load this adapter of this model, whatever the room; empty = it does."""
    conversions: frozenset[str] = frozenset()
    """Of contract.bounds.LOAD_QUANTIZATIONS, what it can make of unquantized weights while it loads them; its rules say
    on which device."""
    layout_arguments: Callable[[Layout], tuple[str, ...]] = lambda layout: ()
    """Arguments of its own that ask for a way to share GPUs; of an engine whose layouts differ."""
    config_classes: Callable[[], Classes] = no_classes
    """What config.json means where it says nothing, by model_type."""
    way_out: Callable[[Case], str] = lambda case: ""
    """Advice for a model that its rules object to: another version that it would run; empty = none."""
    small_cache: str = ""
    """The argument of its own that halves the KV cache, `--name=value`; empty = it has none."""
    coarser: tuple[CoarserVersion, ...] = ()
    """What to look for when the model does not fit."""
    unsupported_fields: Mapping[str, str] = field(default_factory=dict)
    """Fields of requests (openai/requests/table.py, dotted) that it can't honour, with what to use instead. It refuses
    them by name; docs/api.md lists them; the tests of every engine ask for each."""
    own_settings: frozenset[str] = frozenset()
    """Those of the runtime settings OF_SOME_ENGINES that it honours; the others are refused."""
    caches: Caches = field(default_factory=dict)
    """Where it keeps what it compiles for a device; empty = it compiles nothing."""
    last_words: tuple[tuple[FailureClass, str], ...] = ()
    """Patterns of its own in the last lines of a failed process, beside those of every engine."""
