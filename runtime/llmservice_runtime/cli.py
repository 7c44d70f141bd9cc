"""`llmservice-runtime`: serve a model, install an engine."""

from __future__ import annotations

import sys


def main() -> int:
    """Entry point of the console script."""
    print("usage: llmservice-runtime serve --settings FILE | install ENGINE", file=sys.stderr)
    return 2
