"""Where everything is kept that can be made or fetched again: one folder, of which each part has a folder below."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

CACHE_ENV = "LLMSERVICE_CACHE_DIR"
COMPILED_FOLDER = "compiled"
"""The part of a cache where engines keep what they compile."""


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """LLMSERVICE_CACHE_DIR, else XDG_CACHE_HOME/llmservice, else ~/.cache/llmservice; absolute, links kept."""
    env = os.environ if environ is None else environ
    home = Path(env.get("HOME") or Path.home())
    folder = env.get(CACHE_ENV) or Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "llmservice"
    return Path(folder).expanduser().absolute()
