"""The unit's text. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

NAME = "llmservice.service"
DRAIN_SECONDS = 330
"""Running answers end before that; the longest default of endpoint.drainSeconds, and some."""
PASSED = (
    "CUDA_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES", "HF_ENDPOINT", "HF_HOME", "HF_HUB_OFFLINE",
    "LLMSERVICE_CACHE_DIR", "LLMSERVICE_ENGINES_DIR", "LLMSERVICE_SECRETS_DIR", "LLMSERVICE_STATE_DIR",
    "MODELSCOPE_ENDPOINT", "NO_PROXY", "OLLAMA_MODELS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
)  # fmt: skip
"""Variables that services are to find as they are now. None of them is a secret."""
SECRETS = (
    "HF_TOKEN",
    "MODELSCOPE_API_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "HTTP_BEARER_TOKEN",
    "HTTPS_PROXY",
    "HTTP_PROXY",
)
"""Variables that are none of a file's business, or may not be."""
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@+,-]+")


def unit(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """What systemd is to run. `environ` is this process's; PASSED of it is written down."""
    variables = "".join(f"Environment={quoted(f'{name}={environ[name]}')}\n" for name in PASSED if environ.get(name))
    return f"""# Written by `llmservice autostart`; `llmservice autostart --off` removes it.
[Unit]
Description=LLMService: the models of this user

[Service]
ExecStart={" ".join(quoted(word, "$") for word in command)}
{variables}Restart=on-failure
RestartSec=10
KillMode=mixed
TimeoutStopSec={DRAIN_SECONDS}

[Install]
WantedBy=default.target
"""


def quoted(word: str, special: str = "") -> str:
    """One word as systemd reads it: `%` begins a specifier everywhere, `special` a variable in commands."""
    for character in ("%", *special):
        word = word.replace(character, character * 2)
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def left_out(environ: Mapping[str, str]) -> list[str]:
    """Variables that are set and that no unit should have."""
    return [name for name in SECRETS if environ.get(name)]


def unit_path(environ: Mapping[str, str]) -> Path:
    """Where systemd looks for units of this user."""
    return config_folder(environ) / "systemd" / "user" / NAME


def config_folder(environ: Mapping[str, str]) -> Path:
    """$XDG_CONFIG_HOME, or ~/.config."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config")
