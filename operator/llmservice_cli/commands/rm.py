"""`llmservice rm`: as `llmservice models rm`, by the shorter name that Ollama's people know."""

from __future__ import annotations

import argparse

from llmservice_cli.commands import models


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    models.add_named(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.set_defaults(action="rm", output=None)


def run(args: argparse.Namespace) -> int:
    """As `models rm`."""
    return models.run(args)
