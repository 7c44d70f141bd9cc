"""axe-core, which finds what keeps people out of a page: of the console's lock, for tests alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import llmservice_console
from cluster.artefact import obtain
from cluster.layout import digest_of

LOCK = Path(llmservice_console.__file__).parent / "npm" / "package-lock.json"


def axe() -> Path:
    """The script, from the cache or fetched now."""
    return obtain(f"axe-{digest_of(LOCK)}", "axe-core", _fetch) / "node_modules/axe-core/axe.min.js"


def _fetch(folder: Path, log: Path) -> None:
    with log.open("w") as told:
        command = [sys.executable, "-m", "llmservice_console.vendor", "--dev", str(folder)]
        subprocess.run(command, check=True, stdout=told, stderr=subprocess.STDOUT)
