"""What the words of a command may be, for shells that complete them (`llmservice completion`)."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable

from llmservice_cli.local.client import Control
from llmservice_cli.places import Places
from llmservice_runtime.contract.errors import UserError

Words = Callable[[], list[str]]


def completes(action: argparse.Action, words: Words) -> None:
    """An argument is one of these words, or may be."""

    def completer(**_: object) -> list[str]:
        with contextlib.suppress(UserError, OSError):
            return words()
        return []

    action.completer = completer  # type: ignore[attr-defined]


def services() -> list[str]:
    """Names of the services of the running instance: bare ones where they are unique."""
    found = [one["object"]["metadata"] for one in Control(Places.from_environment().state).snapshot()["services"]]
    bare = [metadata["name"] for metadata in found]
    return sorted(
        metadata["name"] if bare.count(metadata["name"]) == 1 else f"{metadata['namespace']}/{metadata['name']}"
        for metadata in found
    )


def kept() -> list[str]:
    """Models in the cache, by their URIs."""
    from llmservice_runtime.sources.kept import kept_models

    return sorted({kept.uri for kept in kept_models(Places.from_environment().cache)})


def models() -> list[str]:
    """What `run` finds on this machine: services, models in the cache, and Ollama's."""
    from llmservice_cli.ollama.store import kept as of_ollama
    from llmservice_cli.ollama.store import stores

    found = [uri.removeprefix("hf://") for uri in kept()]
    found += [model.name.shown for model in of_ollama(stores()).models]
    with contextlib.suppress(UserError):
        found += services()
    return sorted(set(found))
