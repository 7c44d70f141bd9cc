"""One LoRA adapter: its headers read, held against the model, its files fetched. What a supervisor runs, and a Job."""

from __future__ import annotations

import dataclasses
import json
import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.adapters import judge
from llmservice_runtime.engines.registry import config_classes
from llmservice_runtime.estimate.adapters import AdapterRoom
from llmservice_runtime.formats.inspect import inspect_model
from llmservice_runtime.formats.lora import LoraFacts, inspect_adapter
from llmservice_runtime.prepare.run import exit_code
from llmservice_runtime.sources.aws import agent_addresses
from llmservice_runtime.sources.cache import model_folder
from llmservice_runtime.sources.download import fetch
from llmservice_runtime.sources.guard import WAY_OUT, AddressRefusedError, public_connections_only
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.progress import Silent
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings

PHASE = "FetchingAdapter"
"""`phase` of the failure record."""


@dataclass(frozen=True, slots=True)
class AdapterRequest:
    """What to bring. `secret`: a folder with a file per key; `settings`: of the replica whose model it must fit.

    `cache` None = nothing is kept, which only `fetch` False goes with, or a file://. `private`, `proxies` as in
    `prepare.run.Request`.
    """

    name: str
    uri: str
    cache: Path | None
    revision: str | None = None
    secret: Path | None = None
    private: bool = False
    proxies: tuple[str, ...] = ()
    settings: RuntimeSettings | None = None
    fetch: bool = True


@dataclass(frozen=True, slots=True)
class PreparedAdapter:
    """An adapter at a fixed revision: its facts, and what an engine is pointed at: a GGUF, or a folder."""

    facts: LoraFacts
    revision: str
    path: str

    def to_json(self) -> str:
        """JSON text that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> PreparedAdapter:
        """ValueError when it is none."""
        try:
            body: Any = json.loads(text)
            return PreparedAdapter(LoraFacts.of(body["facts"]), str(body["revision"]), str(body["path"]))
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not the report of an adapter: {error}") from error


def report(request: AdapterRequest) -> tuple[int, str]:
    """Exit code, and JSON: the adapter, or a failure record."""
    try:
        return 0, _guarded(request).to_json()
    except UserError as error:
        reason = _in_its_words(error.reason, request.name)
        remedy = _in_its_words(error.remedy, request.name)
        return exit_code(error), FailureRecord(error.failure, reason, remedy, PHASE).to_json()


def _in_its_words(text: str, name: str) -> str:
    """Sources speak of the model that they were written for."""
    return text.replace("spec.model.", f"spec.adapters[{name}].").replace("The model cache", "The cache of adapters")


def _guarded(request: AdapterRequest) -> PreparedAdapter:
    try:
        lent = agent_addresses(os.environ)
        with nullcontext() if request.private else public_connections_only(request.proxies, lent):
            return prepare_adapter(request)
    except AddressRefusedError as error:
        raise UserError(f"spec.model.uri: {request.uri}: {error}, which may not be read.", WAY_OUT) from None


def prepare_adapter(request: AdapterRequest) -> PreparedAdapter:
    """The adapter, checked, its files complete. UserError as sources and formats raise it, or what doesn't fit."""
    cache = request.cache if request.fetch else None
    settings = dataclasses.replace(SourceSettings.from_environment(cache), allow_private=request.private)
    files = open_model(
        request.uri, request.revision, base=Path("/"), secrets=_secrets(request.secret), settings=settings
    )
    try:
        facts = inspect_adapter(files)
    except UserError as error:
        if error.failure not in (FailureClass.UNSUPPORTED_FORMAT, FailureClass.MODEL_DAMAGED):
            raise
        raise UserError(f"spec.model.uri: {request.uri}: {error.reason}", error.remedy, error.failure) from None
    if request.settings is not None:
        _check(facts, request.settings, request.name)
    folder = files.folder
    if folder is None and request.cache is not None:
        fetched = request.fetch
        folder = fetch(files, facts.files, request.cache, Silent()) if fetched else model_folder(request.cache, files)
    if folder is None:
        return PreparedAdapter(facts, files.revision, "")
    path = folder / facts.files[0] if len(facts.files) == 1 else folder
    return PreparedAdapter(facts, files.revision, str(path))


def _secrets(folder: Path | None) -> Secrets:
    if folder is not None and not folder.is_dir():
        raise UserError(f"Its Secret is not here: there is no {folder}.", "Replicas that have it are on their way.")
    return Secrets(folder.name, folder.parent) if folder is not None else Secrets()


def _check(adapter: LoraFacts, settings: RuntimeSettings, name: str) -> None:
    path = Path(settings.model_path)
    uri = f"file://{path}"
    files = open_model(uri, None, base=Path("/"), secrets=Secrets(), settings=SourceSettings())
    model = inspect_model(files, classes=config_classes())
    room = AdapterRoom(settings.adapter_count, settings.adapter_rank)
    verdict = judge(adapter, model, settings.engine, room, count=1)
    if verdict.failure is not None:
        raise UserError(f"spec.adapters[{name}]: {verdict.reason}", verdict.remedy, verdict.failure)
