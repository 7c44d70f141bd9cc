"""Model URIs: `scheme://...` parsed into a value, or refused with the reason."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from llmservice_runtime.sources.errors import FIELD, SourceError

FORMS = (
    "hf://owner/name, modelscope://owner/name, s3://bucket/prefix, http(s)://host/path, oci://registry/repository:tag, "
    "file://path"
)
_HUB_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_OCI = re.compile(
    r"(?P<registry>[A-Za-z0-9.-]+(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?)/"
    r"(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Scheme(StrEnum):
    """Where a model can come from on one machine."""

    HF = "hf"
    MODELSCOPE = "modelscope"
    S3 = "s3"
    HTTP = "http"
    HTTPS = "https"
    OCI = "oci"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class ModelUri:
    """A parsed model URI.

    `container` is the owner/name, bucket, host, registry/repository or folder; `path` what follows (an S3 prefix, a URL
    path); `reference` an OCI tag or digest. `shown` is fit for logs: the query of a pre-signed URL is left out.
    """

    scheme: Scheme
    shown: str
    container: str
    path: str = ""
    reference: str = ""
    text: str = field(default="", repr=False)
    """As it was written; may carry a signature."""
    decoded: str = ""
    """file:// only: `container` with %20 and the like decoded, for when nothing has the name that was written."""

    @property
    def slug(self) -> str:
        """A folder name of its own: owner--name for hubs, with a digest where characters were lost."""
        if self.scheme in (Scheme.HF, Scheme.MODELSCOPE):
            return self.container.replace("/", "--")
        plain = "--".join(part for part in (self.container, self.path.strip("/")) if part)
        digest = hashlib.sha256(
            f"{self.scheme}|{self.container}|{self.path}".encode(errors="surrogateescape")
        ).hexdigest()[:10]
        return f"{_UNSAFE.sub('--', plain).strip('.-')[-80:].lstrip('.-')}-{digest}"


def parse_uri(uri: str, base: Path) -> ModelUri:
    """Parse `spec.model.uri`; relative file:// paths are resolved against `base` (the manifest's folder).

    SourceError names the field, the value, the reason and the remedy.
    """
    if uri.lstrip(" ").lower().startswith("file://"):  # a path may hold anything, and end in a space
        return _file(uri.lstrip(" "), base)
    if any(ord(character) < 33 or ord(character) == 127 for character in uri.strip(" ")):
        raise _bad(repr(uri), "it holds white space or control characters", "Remove them.")
    uri = uri.strip()
    scheme, separator, rest = uri.partition("://")
    if not separator:
        raise _bad(
            uri, "it has no scheme", f"Write one of: {FORMS}. A hub model is hf://{uri.strip('/') or 'owner/name'}."
        )
    match scheme.lower():
        case "hf" | "modelscope" as hub:
            return _hub(Scheme(hub), rest)
        case "s3":
            return _s3(rest)
        case "http" | "https" as web:
            return _web(Scheme(web), uri)
        case "oci":
            return _oci(rest)
        case "pvc":
            raise _bad(
                uri,
                "pvc:// names a PersistentVolumeClaim, which exists in a cluster only, not on one machine",
                "Use file:// with the folder where the volume's files are on this machine.",
            )
    raise _bad(uri.partition("?")[0], f"the scheme {scheme}:// is unknown", f"Write one of: {FORMS}.")


def _bad(value: str, reason: str, remedy: str) -> SourceError:
    return SourceError(f"{FIELD}: {value}: {reason}.", remedy)


def _hub(scheme: Scheme, rest: str) -> ModelUri:
    shown = f"{scheme}://{rest}"
    if "@" in rest:
        name, _, revision = rest.partition("@")
        raise _bad(shown, "a revision does not belong into the URI", f"Use {scheme}://{name} and revision: {revision}.")
    parts = rest.rstrip("/").split("/")
    if len(parts) > 2:
        raise _bad(
            shown,
            "it has more parts than owner/name",
            f"Use {scheme}://{'/'.join(parts[:2])} and choose files with spec.model.include.",
        )
    one_part_allowed = scheme is Scheme.HF
    if len(parts) < 2 and not (one_part_allowed and parts[0]):
        raise _bad(shown, "it is not owner/name", f"Write {scheme}://owner/name, as the model's page shows it.")
    for part in parts:
        if not _HUB_PART.fullmatch(part) or "--" in part or ".." in part:
            raise _bad(shown, f"{part!r} is not a name that the hub allows", "Copy owner/name from the model's page.")
    return ModelUri(scheme, shown, "/".join(parts), text=shown)


def _s3(rest: str) -> ModelUri:
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise _bad(f"s3://{rest}", f"{bucket!r} is not a bucket name", "Write s3://bucket/prefix.")
    return ModelUri(Scheme.S3, f"s3://{rest}", bucket, prefix, text=f"s3://{rest}")


def _web(scheme: Scheme, uri: str) -> ModelUri:
    try:
        parts: SplitResult = urlsplit(uri)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise _bad(uri.partition("?")[0], f"it is not a URL ({error})", "Write http(s)://host/path.") from None
    if parts.username is not None or parts.password is not None:
        raise _bad(
            f"{scheme}://{host}{parts.path}",
            "credentials do not belong into the URI, which is stored and shown",
            "Give them as HTTP_USERNAME and HTTP_PASSWORD, or HTTP_BEARER_TOKEN.",
        )
    if not host:
        raise _bad(uri.partition("?")[0], "it has no host", "Write http(s)://host/path.")
    shown = f"{scheme}://{parts.netloc}{parts.path}" + ("?..." if parts.query else "")
    return ModelUri(scheme, shown, parts.netloc, parts.path, text=uri.partition("#")[0])


def _oci(rest: str) -> ModelUri:
    match = _OCI.fullmatch(rest)
    if match is None:
        raise _bad(
            f"oci://{rest}", "it is not registry/repository:tag", "Write oci://registry.example/models/name:tag."
        )
    reference = match["digest"] or match["tag"] or ""
    return ModelUri(
        Scheme.OCI, f"oci://{rest}", match["registry"], match["repository"], reference or "latest", text=f"oci://{rest}"
    )


def _file(uri: str, base: Path) -> ModelUri:
    path = uri[len("file://") :]
    if not path or "\0" in unquote(path):
        raise _bad(repr(uri), "it names no path", "Write file:///absolute/path or file://path/beside/the/manifest.")
    written, decoded = (str((base / _expanded(Path(name))).absolute()) for name in (path, unquote(path)))
    return ModelUri(Scheme.FILE, uri, written, text=uri, decoded=decoded if decoded != written else "")


def _expanded(path: Path) -> Path:
    """`~` is the user's folder, `~name` another user's where there is one."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path
