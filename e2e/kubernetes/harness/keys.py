"""API keys of the gateway, made by the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.programs import run

LLMSERVICE = Path(sys.executable).with_name("llmservice")


def keys(*words: str) -> str:
    """`llmservice keys WORDS`; its standard output."""
    return run(LLMSERVICE, "keys", *words)


@contextmanager
def key(name: str, *words: str) -> Iterator[str]:
    """One that `llmservice keys create NAME WORDS` makes, until the block ends."""
    made = keys("create", name, *words).strip()
    try:
        yield made
    finally:
        keys("revoke", name)
