"""One prepare run: open the source, read the headers, fetch the files, leave a report."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from llmservice_runtime.contract.cache import COMPILED_FOLDER
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.engines.registry import config_classes, reads_gguf
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.formats.inspect import inspect_model, stand_alone
from llmservice_runtime.prepare.report import Prepared
from llmservice_runtime.sources.aws import agent_addresses
from llmservice_runtime.sources.cache import model_folder, safe_revision
from llmservice_runtime.sources.download import fetch
from llmservice_runtime.sources.errors import FIELD, SourceError
from llmservice_runtime.sources.files import Source
from llmservice_runtime.sources.guard import WAY_OUT, AddressRefusedError, public_connections_only
from llmservice_runtime.sources.kept import forget, want
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.progress import Progress
from llmservice_runtime.sources.room import Room
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings

PHASE = "Preparing"
"""`phase` of the failure record."""
MUST_BE_MENDED = 1
TRY_AGAIN = 75
"""Exit code for what may pass by itself (EX_TEMPFAIL): the hub is away."""
LISTED_SECONDS = 86400.0
"""So old the list of services may be when a Job at last runs: a younger mark may be of a service that it lacks."""
_PASSING = frozenset({FailureClass.HUB_UNREACHABLE, FailureClass.MODEL_DAMAGED})


@dataclass(frozen=True, slots=True)
class Request:
    """What to prepare. `cache` is the folder that the engine will read from; `secrets` has a folder per Secret.

    `fetch` brings the files there; otherwise headers are read and nothing is kept. `private` allows addresses inside
    the network; without it only the `proxies` (URLs) may be there, whatever the environment names.
    """

    uri: str
    cache: Path
    revision: str | None = None
    include: tuple[str, ...] = ()
    expected: ModelFormat | None = None
    engine: EngineType | None = None
    """The one that is asked for: of a repository that has weights of several formats, those that it reads."""
    secret: str | None = None
    secrets: Path | None = None
    fetch: bool = False
    private: bool = False
    proxies: tuple[str, ...] = ()
    make_room: bool = False
    """Whether models that nobody uses may go when the cache is full."""
    service: str = ""
    """`namespace/name` of the service that has the model even while it has no replica; empty = nobody has."""
    keep: tuple[str, ...] = ()
    """Revisions that must not go."""
    services: tuple[str, ...] = ()
    """Names of all services that there are in the namespace of `service`; empty = not known. Others have no model."""


def prepare(request: Request, progress: Progress) -> Prepared:
    """Facts, revision and path of the model; with `fetch` its files stand complete. UserError as sources raise it."""
    cache = request.cache if request.fetch else None
    settings = dataclasses.replace(SourceSettings.from_environment(cache), allow_private=request.private)
    secrets = Secrets(request.secret, request.secrets)
    files = open_model(request.uri, request.revision, base=Path("/"), secrets=secrets, settings=settings)
    facts = inspect_model(files, request.include, request.expected, config_classes(), reads_gguf(request.engine))
    alone = stand_alone(facts, request.include)
    folder = _fetch(files, facts.files, alone, request, progress) if request.fetch else files.folder
    folder = folder or model_folder(request.cache, files, alone)
    path = folder / facts.files[0] if facts.format is ModelFormat.GGUF else folder
    return Prepared(facts, files.revision, str(path))


def _fetch(files: Source, paths: Sequence[str], alone: Sequence[str], request: Request, progress: Progress) -> Path:
    if request.services:
        namespace = request.service.partition("/")[0]
        forget(request.cache, namespace, request.services, time.time() - LISTED_SECONDS)
    keep = tuple(map(safe_revision, request.keep))
    room = Room(request.cache, request.service, keep) if request.make_room else None
    folder = fetch(files, paths, request.cache, progress, room=room, chosen_by=alone)
    if request.service and folder != files.folder:
        want(folder, request.service)
    make_compiled(request.cache)
    return folder


def make_compiled(cache: Path) -> None:
    """A replica mounts this part of a cache, and whoever may write the cache may write it: a kubelet that makes it
    would make it its own. What can't be made is missed by nobody: an engine then compiles at every start."""
    folder = cache / COMPILED_FOLDER
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(cache.stat().st_mode & 0o7777)


def run(request: Request, report: Path | None, progress: Progress) -> int:
    """`prepare`, with its report (or the failure record) in `report`; the exit code. UserError is raised on."""
    try:
        text = _checked(request, progress).to_json()
    except UserError as error:
        if report is not None:
            report.write_text(FailureRecord(error.failure, error.reason, error.remedy, PHASE).to_json())
        raise
    if report is not None:
        report.write_text(text)
    else:
        print(text)  # noqa: T201 - the report is this command's output
    return 0


def _checked(request: Request, progress: Progress) -> Prepared:
    """`prepare`, where nothing inside the network is reached unless `request.private` allows it."""
    try:
        lent = agent_addresses(os.environ)
        with nullcontext() if request.private else public_connections_only(request.proxies, lent):
            return prepare(request, progress)
    except AddressRefusedError as error:
        raise SourceError(
            f"{FIELD}: {request.uri}: {error}, which may not be read.",
            WAY_OUT,
        ) from None


def exit_code(error: UserError) -> int:
    """Whether trying again can help."""
    return TRY_AGAIN if error.failure in _PASSING else MUST_BE_MENDED
