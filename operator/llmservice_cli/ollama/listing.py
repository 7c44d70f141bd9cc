"""Models of Ollama's beside those of the cache, as `llmservice models` shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmservice_cli.ollama.links import folder_of
from llmservice_cli.ollama.store import Found, OllamaModel
from llmservice_planning.words import memory

ID = 12
"""Characters of a digest, as `ollama list` has them."""
Users = Sequence[tuple[str, str, str]]
"""(service, URI, revision)."""


def users_of(model: OllamaModel, cache: Path, users: Users) -> list[str]:
    """Services that serve it."""
    uri = f"file://{folder_of(model.name, cache)}"
    return [service for service, served, _ in users if served == uri]


def rows(found: Found, cache: Path, users: Users) -> list[tuple[str, ...]]:
    """Lines of the table: model, revision, size, last change, users."""
    return [
        (
            model.name.shown,
            model.digest[:ID],
            memory(model.size) + (" (can't be served)" if model.problem else ""),
            datetime.fromtimestamp(model.changed).strftime("%Y-%m-%d %H:%M"),
            ", ".join(users_of(model, cache, users)) or "-",
        )
        for model in found.models
    ]


def remarks(found: Found) -> Iterator[str]:
    """What stands below it: how much there is, and what is wrong."""
    for store in dict.fromkeys(model.store for model in found.models):
        size = sum(model.size for model in found.models if model.store == store)
        yield f"{memory(size)} in {store}, which is Ollama's: they are served from there, and `ollama rm` removes them"
    for problem in (*(model.problem for model in found.models), *found.unread):
        if problem is not None:
            yield f"{problem.reason} {problem.remedy}"


def as_objects(found: Found, cache: Path, users: Users) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "store": "ollama",
            "uri": model.name.shown,
            "revision": model.digest,
            "folder": str(model.store),
            "bytes": model.size,
            "lastUsed": datetime.fromtimestamp(model.changed, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "complete": model.problem is None,
            "usedBy": (served := users_of(model, cache, users)),
            "inUse": bool(served),
            **({"problem": model.problem.reason} if model.problem else {}),
        }
        for model in found.models
    ]
