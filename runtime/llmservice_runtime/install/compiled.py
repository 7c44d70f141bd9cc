"""The variables by which an engine finds what it compiled in an earlier start."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines import registry
from llmservice_runtime.engines.base.caches import cache_environment, cache_key
from llmservice_runtime.install.environment import STAMP, engines_dir
from llmservice_runtime.machine.probe import cpu_flags

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""Where Python looks for the name of its user, before it asks for the entry of one that may have none."""


def compiled(settings: RuntimeSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Nothing where no folder is set. One that can't be written is left alone: the engine then compiles anew, in its
    own places. A user without an entry (as containers may run under) gets a name, which torch asks for.
    """
    if not settings.compiled:
        return {}
    made_from = _stamp(engines_dir(environ) / settings.engine.folder / STAMP)
    folder = Path(settings.compiled) / settings.engine.folder / cache_key(made_from, cpu_flags())
    name = {} if any(environ.get(name) for name in NAMES) else {"USER": f"user{os.getuid()}"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, f"user {os.getuid()} may not write", str(folder))
    except OSError as error:
        sys.stderr.write(f"what the engine compiles is not kept: {error.filename}: {error.strerror}\n")
        return name
    return name | cache_environment(registry.definition(settings.engine).caches, folder, environ)


def _stamp(file: Path) -> str:
    """What the environment was made from, apart from where the runtime stands."""
    try:
        stamp = json.loads(file.read_text())
    except (OSError, ValueError):
        return ""
    kept = {name: value for name, value in stamp.items() if name != "runtime"} if isinstance(stamp, dict) else stamp
    return json.dumps(kept, sort_keys=True)
