"""From a service's adapters to what their headers say, each by itself: one that can't be read stops no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmservice_api.adapters import AdapterSpec
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.models import open_source
from llmservice_cli.places import Places
from llmservice_planning.adapters import judged, why_not
from llmservice_runtime.contract.adapters import Adapter
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.estimate.adapters import AdapterRoom
from llmservice_runtime.formats.facts import ModelFacts
from llmservice_runtime.formats.lora import LoraFacts, inspect_adapter

FILE = "file://"
NotLoaded = tuple[tuple[str, str, str], ...]
"""(name, reason, sentence) of adapters that replicas are not told of."""


@dataclass(frozen=True, slots=True)
class ReadAdapter:
    """One of spec.adapters as replicas are to load it, and its facts; or `failure` and `message` why not."""

    adapter: Adapter
    facts: LoraFacts | None = None
    failure: FailureClass | None = None
    message: str = ""


def read_adapters(
    service: LLMService, base: Path, places: Places, known: Mapping[AdapterSpec, Adapter] | None = None
) -> tuple[ReadAdapter, ...]:
    """All of a service; relative file:// URIs start from `base`. `known` were resolved before, and stay as they are."""
    return tuple(_read(spec, base, places, (known or {}).get(spec)) for spec in service.spec.adapters)


def _read(spec: AdapterSpec, base: Path, places: Places, known: Adapter | None) -> ReadAdapter:
    revision = known.revision if known is not None else spec.revision
    adapter = Adapter(spec.name, _absolute(spec.uri, base), revision, _folder(spec, places))
    try:
        files = open_source(adapter.uri, revision, spec.secret_ref.name if spec.secret_ref else None, base, places)
        found = Adapter(adapter.name, adapter.uri, files.revision or None, adapter.secret)
        return ReadAdapter(found, inspect_adapter(files))
    except UserError as error:
        return ReadAdapter(adapter, None, error.failure, _in_its_words(f"{error.reason} {error.remedy}", adapter))


def _in_its_words(text: str, adapter: Adapter) -> str:
    """Sources speak of the model that they were written for, formats of no field."""
    field = f"spec.adapters[{adapter.name}]"
    said = text.strip().replace("spec.model.", f"{field}.")
    return said if field in said else f"{field}.uri: {adapter.uri}: {said}"


def _absolute(uri: str, base: Path) -> str:
    """Replicas know of no folder that it could start from."""
    return f"{FILE}{(base / uri.removeprefix(FILE)).resolve()}" if uri.startswith(FILE) else uri


def _folder(spec: AdapterSpec, places: Places) -> str | None:
    """Where its Secret is; None = in the environment, which replicas have too."""
    if spec.secret_ref is None or places.secrets is None:
        return None
    folder = places.secrets / spec.secret_ref.name
    return str(folder) if folder.is_dir() else None


def chosen(
    adapters: tuple[ReadAdapter, ...], facts: ModelFacts, engine: EngineType, room: AdapterRoom
) -> tuple[tuple[Adapter, ...], NotLoaded, str]:
    """Those that replicas with this room load, why others are not, and what the room lacks (a clause, or empty)."""
    made = judged({one.adapter.name: one.facts for one in adapters if one.facts is not None}, facts, engine, room)
    why: dict[str, tuple[str, str]] = {
        one.adapter.name: (str(one.failure), one.message) for one in adapters if one.failure is not None
    }
    why |= {name: (str(said[0]), said[1]) for name, verdict in made.refused.items() if (said := why_not(verdict))}
    why |= {
        name: (FailureClass.DOES_NOT_FIT.value, f"There is no room for it: {clause}.")
        for name, clause in made.beyond.items()
    }
    told = tuple(one.adapter for one in adapters if one.adapter.name not in why)
    return told, tuple((name, *said) for name, said in why.items()), next(iter(made.beyond.values()), "")
