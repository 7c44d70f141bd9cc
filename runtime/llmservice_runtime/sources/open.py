"""The entry to model sources: a URI becomes files at a fixed revision. Hub libraries are imported when used."""

from __future__ import annotations

from pathlib import Path

from llmservice_runtime.sources.files import Source
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.uri import ModelUri, Scheme, parse_uri


def open_model(uri: str, revision: str | None, *, base: Path, secrets: Secrets, settings: SourceSettings) -> Source:
    """Open a model: parse the URI, resolve the revision once to a commit, list the files.

    `base` is the folder that relative file:// paths start from. With `settings.cache`, listing and header bytes are
    remembered, and answer when the hub can't. SourceError for everything that can go wrong.
    """
    parsed = parse_uri(uri, base)
    if parsed.scheme is Scheme.FILE:
        from llmservice_runtime.sources.local import LocalFiles

        return LocalFiles(parsed, revision)
    if settings.cache is None:
        return _connect(parsed, revision, secrets, settings)
    from llmservice_runtime.sources.cached import open_cached

    return open_cached(
        parsed,
        revision,
        lambda asked, patience: _connect(parsed, asked, secrets, patience),
        settings.cache,
        settings,
    )


def _connect(uri: ModelUri, revision: str | None, secrets: Secrets, settings: SourceSettings) -> Source:
    """The source itself, over the network."""
    match uri.scheme:
        case Scheme.HF:
            from llmservice_runtime.sources.hf import HubFiles

            return HubFiles(uri, revision, secrets, settings)
        case Scheme.MODELSCOPE:
            from llmservice_runtime.sources.modelscope import ModelScopeFiles

            return ModelScopeFiles(uri, revision, secrets, settings)
        case Scheme.S3:
            from llmservice_runtime.sources.s3 import S3Files

            return S3Files(uri, revision, secrets, settings)
        case Scheme.OCI:
            from llmservice_runtime.sources.oci import OciFiles

            return OciFiles(uri, revision, secrets, settings)
        case Scheme.HTTP | Scheme.HTTPS:
            from llmservice_runtime.sources.web import WebFiles

            return WebFiles(uri, revision, secrets, settings)
        case Scheme.FILE:
            from llmservice_runtime.sources.local import LocalFiles

            return LocalFiles(uri, revision)
