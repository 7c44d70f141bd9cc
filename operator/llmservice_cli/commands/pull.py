"""`llmservice pull`: bring a model to this machine without serving it."""

from __future__ import annotations

import argparse
from pathlib import Path

from llmservice_cli.completers import completes, kept
from llmservice_cli.models import fetch_model, left_to_download, resolve
from llmservice_cli.output import unfailing
from llmservice_cli.places import Places
from llmservice_cli.wanted.service import Options, manifest, version_of
from llmservice_runtime.sources.progress import progress_for


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    completes(
        parser.add_argument(
            "models", nargs="+", metavar="MODEL", help="OWNER/NAME[:QUANTIZATION] of the Hugging Face hub, or a URI"
        ),
        kept,
    )


def run(args: argparse.Namespace) -> int:
    """0 when all are here; UserError at the first that can't be brought. What was interrupted goes on next time."""
    places = Places.from_environment()
    with unfailing():
        for word in args.models:
            _pull(word, places)
    return 0


def _pull(word: str, places: Places) -> None:
    version = version_of(word, places)
    if version.meant.ollama is not None:
        print(f"{word} is here, in Ollama's store; `llmservice run {word}` serves it from there.")
        return
    model = resolve(manifest(version, Options(), []).service, Path.cwd(), places)
    if sentence := left_to_download(model, places):
        print(f"{word}: {sentence}", flush=True)
    path = fetch_model(model, places, progress_for())
    print(f"{word} is here: {path}")
