"""What loading took here, from instance to instance: whoever waits for the same again is told when to come back."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path

from llmservice_runtime.contract.settings import RuntimeSettings

FILE = "load-times.json"
MOST = 64
"""Loads that are kept, the newest ones."""
DECIDING = (
    "engine", "model_path", "context_tokens", "max_sequences", "kv_tokens", "threads", "load_quantization",
    "engine_args", "engine_env",
)  # fmt: skip
"""Settings that say how long a load takes."""

log = logging.getLogger(__name__)


class LoadTimes:
    """Seconds by settings, in a file of the state folder. What can't be read or written there is not known."""

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self._seconds = _read(self._file)

    def of(self, settings: RuntimeSettings) -> float | None:
        """What the last load with such settings took; None = there was none."""
        return self._seconds.get(_key(settings))

    def keep(self, settings: RuntimeSettings, seconds: float) -> None:
        """A load is done."""
        key = _key(settings)
        if self._seconds.get(key) == seconds:
            return
        self._seconds.pop(key, None)
        self._seconds[key] = seconds
        for old in list(self._seconds)[:-MOST]:
            del self._seconds[old]
        draft = self._file.with_name(f".{FILE}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(self._seconds))
            draft.replace(self._file)
        except OSError as error:
            log.debug("can't keep what loading took: %s", error)
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def _key(settings: RuntimeSettings) -> str:
    body = json.loads(settings.to_json())
    return hashlib.sha256(json.dumps([body.get(name) for name in DECIDING]).encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, float]:
    try:
        body = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(body, dict):
        return {}
    return {key: float(took) for key, took in body.items() if isinstance(took, int | float) and 0 <= took < 1e6}
