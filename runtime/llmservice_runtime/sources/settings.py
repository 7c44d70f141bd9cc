"""How model sources behave on this machine: endpoints, patience, cache, which addresses may be read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
HF_ENDPOINT = "https://huggingface.co"
MODELSCOPE_ENDPOINT = "https://www.modelscope.cn"


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Endpoints are base URLs without a final slash; times in seconds."""

    cache: Path | None = None
    """Folder of headers and models; None = nothing is remembered and nothing can be downloaded."""
    hf_endpoint: str = HF_ENDPOINT
    modelscope_endpoint: str = MODELSCOPE_ENDPOINT
    s3_endpoint: str | None = None
    """None = AWS."""
    offline: bool = False
    """Only what the cache holds."""
    allow_private: bool = True
    """False refuses loopback, link-local, private and metadata addresses, after redirects too (DESIGN D3)."""
    attempts: int = 5
    """Of one request, or of one download without any progress."""
    backoff_seconds: float = 0.5
    """Pause after the first failure; it doubles up to 8 s."""
    timeout_seconds: float = 30.0
    """Without a byte received; connecting gets at most 10 s of it."""
    sleep: Callable[[float], None] = time.sleep

    @staticmethod
    def from_environment(cache: Path | None, environ: Mapping[str, str] | None = None) -> SourceSettings:
        """HF_ENDPOINT, MODELSCOPE_ENDPOINT, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, HF_HUB_OFFLINE."""
        env = os.environ if environ is None else environ
        return SourceSettings(
            cache=cache,
            hf_endpoint=_base_url(env.get("HF_ENDPOINT"), HF_ENDPOINT),
            modelscope_endpoint=_base_url(env.get("MODELSCOPE_ENDPOINT"), MODELSCOPE_ENDPOINT),
            s3_endpoint=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None,
            offline=env.get("HF_HUB_OFFLINE", "").lower() in TRUE_WORDS,
        )

    def impatient(self) -> SourceSettings:
        """One attempt and a short timeout: for when the cache can answer instead."""
        return replace(self, attempts=1, timeout_seconds=min(5.0, self.timeout_seconds))


def _base_url(value: str | None, default: str) -> str:
    """A host alone means https."""
    text = (value or default).rstrip("/")
    return text if "://" in text else f"https://{text}"
