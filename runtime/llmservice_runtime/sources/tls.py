"""Which certificates are trusted: the usual ones and the bundles that the environment adds."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from llmservice_runtime.sources.errors import SourceError

BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "SSL_CERT_DIR")


def extra_bundle(environ: Mapping[str, str] | None = None) -> tuple[str, Path] | None:
    """(variable, path) of the first CA bundle that the environment names; SourceError when it does not exist."""
    env = os.environ if environ is None else environ
    for variable in BUNDLE_VARIABLES:
        if value := env.get(variable):
            path = Path(value)
            if not path.exists():
                raise SourceError(
                    f"{variable} names {value}, which does not exist.", "Correct it, or unset it to use the usual ones."
                )
            return variable, path
    return None


def trust(environ: Mapping[str, str] | None = None) -> ssl.SSLContext:
    """Trust the system's authorities, certifi's, and the extra bundle."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if found := extra_bundle(environ):
        variable, path = found
        try:
            context.load_verify_locations(**{"capath" if path.is_dir() else "cafile": str(path)})
        except (ssl.SSLError, OSError) as error:
            raise SourceError(
                f"{variable} names {path}, which is no bundle of certificates ({type(error).__name__}).",
                "It must be a PEM file.",
            ) from None
    return context


def verify_argument() -> str | bool:
    """For libraries that take a path to a bundle instead of a context: requests, boto3."""
    found = extra_bundle()
    return str(found[1]) if found else True
