"""What `docker login` stored: the account of a registry, from Docker's configuration or its credential helpers."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmservice_runtime.sources.errors import SourceError

HUB_KEY = "https://index.docker.io/v1/"
"""Docker's own registry, as its configuration calls it."""
HELPER_SECONDS = 30.0


def stored_account(host: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """(user, password) of a registry; None when nothing is stored. SourceError when the file is no configuration."""
    folder = environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path(environ.get("HOME") or Path.home()) / ".docker") / "config.json"
    try:
        config = json.loads(path.read_text())
        for name in (host, f"https://{host}", *([HUB_KEY] if host == "registry-1.docker.io" else [])):
            if account := _inline(config, name) or _helped(config, name):
                return account
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise SourceError(
            f"{path} can't be read ({type(error).__name__}).", "Log in again with docker login, or remove that file."
        ) from None
    return None


def _inline(config: Mapping[str, Any], name: str) -> tuple[str, str] | None:
    stored = (config.get("auths") or {}).get(name, {}).get("auth")
    user, found, password = base64.b64decode(stored or "").decode().partition(":")
    return (user, password) if found else None


def _helped(config: Mapping[str, Any], name: str) -> tuple[str, str] | None:
    """From the program that keeps passwords; one that is missing or knows nothing is no error."""
    helper = (config.get("credHelpers") or {}).get(name) or config.get("credsStore")
    if not helper:
        return None
    command = [f"docker-credential-{helper}", "get"]
    try:
        run = subprocess.run(command, input=name, capture_output=True, text=True, timeout=HELPER_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    answer = json.loads(run.stdout)
    return str(answer["Username"]), str(answer["Secret"])
