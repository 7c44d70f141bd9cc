"""Where this machine keeps things: the model cache, the state of running instances, secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmservice_runtime.contract.cache import cache_dir

STATE_ENV = "LLMSERVICE_STATE_DIR"
SECRETS_ENV = "LLMSERVICE_SECRETS_DIR"


@dataclass(frozen=True, slots=True)
class Places:
    """Absolute folders; they are created by whoever first writes there.

    `cache` holds downloaded models and headers (safe to delete), `state` running instances and their logs,
    `secrets` one folder per Secret with a file per key, as a Secret looks when it is mounted; None = secrets come from
    the environment alone.
    """

    cache: Path
    state: Path
    secrets: Path | None = None
    remote_code: bool = False
    """Whether code that models bring may run here."""
    private: bool = True
    """Whether models are read from addresses inside the network."""

    @staticmethod
    def from_environment(environ: Mapping[str, str] | None = None) -> Places:
        """The folders of this user.

        LLMSERVICE_CACHE_DIR (default ~/.cache/llmservice), LLMSERVICE_STATE_DIR (default ~/.local/state/llmservice) and
        LLMSERVICE_SECRETS_DIR (default none); XDG_CACHE_HOME and XDG_STATE_HOME move the defaults.
        """
        env = os.environ if environ is None else environ
        home = Path(env.get("HOME") or Path.home())
        state = env.get(STATE_ENV) or Path(env.get("XDG_STATE_HOME") or home / ".local" / "state") / "llmservice"
        secrets = env.get(SECRETS_ENV)
        return Places(cache_dir(env), _absolute(state), _absolute(secrets) if secrets else None)


def _absolute(path: str | Path) -> Path:
    """Expanded and absolute, links kept: what was written is what is shown."""
    return Path(path).expanduser().absolute()
