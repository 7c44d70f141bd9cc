"""Credentials of model sources: from a secret's folder first, then from the environment. Values never show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from llmservice_runtime.sources.errors import SourceError

HF_TOKEN = "HF_TOKEN"
MODELSCOPE_API_TOKEN = "MODELSCOPE_API_TOKEN"
AWS_ACCESS_KEY_ID = "AWS_ACCESS_KEY_ID"
AWS_SECRET_ACCESS_KEY = "AWS_SECRET_ACCESS_KEY"
AWS_SESSION_TOKEN = "AWS_SESSION_TOKEN"
HTTP_BEARER_TOKEN = "HTTP_BEARER_TOKEN"
HTTP_USERNAME = "HTTP_USERNAME"
HTTP_PASSWORD = "HTTP_PASSWORD"
OCI_USERNAME = "OCI_USERNAME"
OCI_PASSWORD = "OCI_PASSWORD"

KEYS = (
    HF_TOKEN,
    MODELSCOPE_API_TOKEN,
    AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN,
    HTTP_BEARER_TOKEN,
    HTTP_USERNAME,
    HTTP_PASSWORD,
    OCI_USERNAME,
    OCI_PASSWORD,
)
"""Every key a secret may have; the field reference and docs/model-sources.md list the same."""


class Secrets:
    """Credentials of one model.

    `name` is `spec.model.secretRef.name`. When `<folder>/<name>/` exists (a file per key, as a mounted Secret looks) it
    is the only place looked at, so that the keys of two accounts never mix; else environment variables count.
    """

    def __init__(
        self, name: str | None = None, folder: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._folder = folder / name if name and folder and (folder / name).is_dir() else None

    def get(self, key: str) -> str | None:
        """The value without surrounding white space, None when absent or empty. SourceError when it can't be read."""
        value = self._read(key)
        if value and not (value.isascii() and value.isprintable()):
            # Libraries put a header that they refuse into their messages; this one must never get there.
            raise SourceError(
                f"{key} holds line breaks or characters that no HTTP header can carry.",
                "Store the value alone, on one line.",
            )
        return value

    def _read(self, key: str) -> str | None:
        if self._folder is None:
            return self._environ.get(key, "").strip() or None
        path = self._folder / key
        try:
            return path.read_text().strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(
                f"spec.model.secretRef: {path} can't be read ({type(error).__name__}).",
                "It must be a text file that this user may read.",
            ) from None

    @property
    def from_environment(self) -> bool:
        """Whether credentials come from the environment, where tools of the hubs keep theirs too."""
        return self._folder is None

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment that was looked at."""
        return self._environ

    def __repr__(self) -> str:
        return f"Secrets({self._folder or 'environment'})"
