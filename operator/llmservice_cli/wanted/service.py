"""The service that serves what a person named, and whether one that is there does already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmservice_api.labels import ALIASES
from llmservice_api.manifest import Manifest
from llmservice_api.model_words import told_apart
from llmservice_api.sentences import explain, field_path
from llmservice_api.v1alpha1 import API_VERSION, KIND, LLMService
from llmservice_cli.commands.ps import full_name, goes
from llmservice_cli.models import open_source
from llmservice_cli.ollama.store import kept, stores
from llmservice_cli.places import Places
from llmservice_cli.wanted.choosing import choose
from llmservice_cli.wanted.labels import service_name
from llmservice_cli.wanted.words import Meant, absolute, meant
from llmservice_runtime.contract.errors import UserError

IDLE_SECONDS = 300
"""As long as Ollama keeps a model that nobody asks for."""


@dataclass(frozen=True, slots=True)
class Version:
    """A model, and which of its versions: `pattern` chooses it among others (empty = there are none), `quantization`
    is set where it is one of several."""

    meant: Meant
    pattern: str = ""
    quantization: str = ""

    @property
    def model(self) -> dict[str, Any]:
        """spec.model."""
        include = {"include": [self.pattern], "expectedFormat": "GGUF"} if self.pattern else {}
        return {"uri": self.meant.uri, **include}

    @property
    def alias(self) -> str:
        """The name that clients of Ollama have for it; empty = its service's own."""
        if self.meant.ollama is not None:
            return self.meant.ollama.name.shown.removesuffix(":latest")
        word = self.meant.word
        return "" if "://" in word or self.meant.uri.startswith("file://") else word


@dataclass(frozen=True, slots=True)
class Options:
    """What is said beside the model. `idle_seconds` None = it stays in memory."""

    name: str = ""
    idle_seconds: int | None = IDLE_SECONDS
    context_tokens: int | None = None
    engine: str = ""


def version_of(word: str, places: Places) -> Version:
    """Which model and version a word means; reads what files there are. UserError as `meant`, `choose` and sources."""
    return version_meant(meant(word, kept(stores()), places.cache, Path.cwd()), places)


def version_meant(found: Meant, places: Places) -> Version:
    """The same of a model. UserError as `choose` and sources."""
    if found.ollama is not None:
        return Version(found)
    chosen = choose(found, open_source(found.uri, None, None, Path.cwd(), places))
    if chosen is None:
        return Version(found)
    variant, pattern = chosen
    return Version(found, pattern, variant.quantization if pattern else "")


def serves(services: Sequence[dict[str, Any]], version: Version) -> str:
    """Full name of a service of a snapshot that has this model, is prepared, and stays; empty = none has."""
    found = served(services, version)
    return full_name(found) if found else ""


def served(services: Sequence[dict[str, Any]], version: Version) -> dict[str, Any] | None:
    """The service itself; None = none has."""
    return next((one for one in services if one["engine"] is not None and not goes(one) and has(one, version)), None)


def has(entry: dict[str, Any], version: Version) -> bool:
    """Whether a service of a snapshot is of this model."""
    model = entry["object"]["spec"]["model"]
    uri, include = absolute(model["uri"], entry.get("base", "")), model.get("include") or []
    return uri == version.meant.uri and include == ([version.pattern] if version.pattern else [])


def manifest(
    version: Version, options: Options, services: Sequence[dict[str, Any]], more: Mapping[str, Any] | None = None
) -> Manifest:
    """The service for it, under a name that no other model has among `services` of a snapshot. `more` = fields that the
    manifest has beside these.

    UserError when `options` say what a service can't have.
    """
    name = options.name or service_name(version.meant, version.quantization)
    others = {entry["object"]["metadata"]["name"] for entry in services if not has(entry, version)}
    if not options.name and name in others:
        name = told_apart(name, version.meant.uri, version.pattern)
    spec: dict[str, Any] = {"model": version.model}
    if options.idle_seconds is not None:
        spec["scaling"] = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": options.idle_seconds}
    if options.context_tokens is not None:
        spec["contextTokens"] = options.context_tokens
    if options.engine:
        spec["engine"] = {"type": options.engine}
    metadata: dict[str, Any] = {"name": name}
    if version.alias and version.alias not in others:  # whose own name it is
        metadata["annotations"] = {ALIASES: version.alias}
    body = _merged({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}, more or {})
    try:
        return Manifest(LLMService.model_validate(body), Path("-"), Path.cwd())
    except ValidationError as error:
        location, reason, remedy = explain(error.errors(include_url=False)[0], LLMService)
        raise UserError(f"{field_path(location)}: {reason}", remedy) from None


def _merged(body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    both = {name: _merged(body[name], more[name]) for name in body if isinstance(more.get(name), Mapping)}
    return {**body, **more, **both}
