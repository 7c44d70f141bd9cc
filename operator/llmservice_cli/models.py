"""From a service to its model: open the source, read the headers, bring the files here."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.places import Places
from llmservice_planning.words import memory
from llmservice_runtime.engines.registry import config_classes, reads_gguf
from llmservice_runtime.formats.facts import ModelFacts, ModelFormat
from llmservice_runtime.formats.inspect import inspect_model, stand_alone
from llmservice_runtime.sources.files import Source
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings

if TYPE_CHECKING:
    from llmservice_runtime.sources.progress import Progress


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model at a fixed revision, and what its headers say. Nothing of its weights was read."""

    files: Source
    facts: ModelFacts
    chosen_by: tuple[str, ...] = ()
    """Patterns that chose its files among others, which an engine must not find beside them."""


def open_source(uri: str, revision: str | None, secret: str | None, base: Path, places: Places) -> Source:
    """Open a model's source with this machine's settings. SourceError when it can't be reached or does not exist."""
    return open_model(
        uri,
        revision,
        base=base,
        secrets=Secrets(secret, places.secrets),
        settings=replace(SourceSettings.from_environment(places.cache), allow_private=places.private),
    )


def resolve(service: LLMService, base: Path, places: Places) -> ResolvedModel:
    """The model of a service; `base` is the folder that relative file:// URIs start from.

    Raises SourceError (unreachable, gated, missing) and UnsupportedModel (a format no engine reads).
    """
    model = service.spec.model
    secret = model.secret_ref.name if model.secret_ref else None
    files = open_source(model.uri, model.revision, secret, base, places)
    expected = ModelFormat(model.expected_format.value) if model.expected_format else None
    facts = inspect_model(files, model.include, expected, config_classes(), reads_gguf(service.spec.engine.asked))
    return ResolvedModel(files, facts, tuple(stand_alone(facts, model.include)))


def fetch_model(resolved: ResolvedModel, places: Places, progress: Progress) -> Path:
    """Bring what an engine needs into the cache; the path it is pointed at: a GGUF file (the first shard) or a folder.

    file:// models are used in place. Raises SourceError (damaged, disk full, hub away).
    """
    from llmservice_runtime.sources.download import fetch  # planning needs none

    folder = fetch(resolved.files, resolved.facts.files, places.cache, progress, chosen_by=resolved.chosen_by)
    return folder / resolved.facts.files[0] if resolved.facts.format is ModelFormat.GGUF else folder


def left_to_download(resolved: ResolvedModel, places: Places) -> str:
    """How much is not here yet, and where it goes: a sentence; empty when all is here."""
    if resolved.files.folder is not None:
        return ""
    from llmservice_runtime.sources.download import lacking

    facts = resolved.facts
    here, total = lacking(resolved.files, facts.files, places.cache, resolved.chosen_by)
    if here >= total:
        return ""
    folder = next(folder for folder in (places.cache, *places.cache.parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    left = f"{memory(total)} of {resolved.files.uri}" if not here else f"{memory(total - here)} more of {memory(total)}"
    return f"downloads {left} to {places.cache}, which has {memory(free)} free."
