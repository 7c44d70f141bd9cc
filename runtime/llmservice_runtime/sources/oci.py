"""oci://registry/repository:tag: an OCI artifact whose layers are model files (ORAS, ModelPack, Docker, Ollama)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from llmservice_runtime.sources.docker_config import stored_account
from llmservice_runtime.sources.errors import Origin
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.http import HttpClient, body_from, range_header, retry_after
from llmservice_runtime.sources.oci_login import Login, is_this_machine
from llmservice_runtime.sources.remote import Body, RemoteFiles
from llmservice_runtime.sources.retry import retry
from llmservice_runtime.sources.secrets import OCI_PASSWORD, OCI_USERNAME, Secrets
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.uri import ModelUri

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
ACCEPTED = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    *INDEX_TYPES,
)
DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
MANIFEST_LIMIT_BYTES = 4 << 20
NAME_ANNOTATIONS = ("org.opencontainers.image.title", "org.cncf.model.filepath")
NAMES_BY_TYPE = {
    "application/vnd.docker.ai.gguf.v3": "model.gguf",
    "application/vnd.ollama.image.model": "model.gguf",
}
"""What registries of Docker and Ollama keep without a name."""


class OciFiles(RemoteFiles):
    """The layers of one manifest; its digest is the revision, their digests are the files' SHA-256."""

    def __init__(self, uri: ModelUri, revision: str | None, secrets: Secrets, settings: SourceSettings) -> None:
        origin = Origin(uri.shown, f"the registry {uri.container}", f"{OCI_USERNAME} and {OCI_PASSWORD}")
        self._origin, self._settings = origin, settings
        host = DOCKER_HUB.get(uri.container, uri.container)
        self._base = f"{'http' if is_this_machine(host) else 'https'}://{host}/v2/{uri.path}"
        self._client = HttpClient(origin, settings)
        self._login = Login(self._client, origin, _account(host, secrets))
        digest, manifest = self._manifest(revision or uri.reference)
        if manifest.get("mediaType") in INDEX_TYPES or "manifests" in manifest:
            digest, manifest = self._manifest(self._first(manifest))
        with origin.understood():
            layers = [layer for layer in manifest.get("layers") or [] if int(layer.get("size", 0)) > 0]
            named = [(name, layer) for layer in layers if (name := _name(layer)) and not _is_archive(layer)]
            if not named:
                kinds = ", ".join(sorted({str(layer.get("mediaType")) for layer in layers})) or "none"
                raise origin.bad(
                    f"no layer is a named model file (layers: {kinds}).",
                    "Push the files as they are with `oras push`, not packed into a container image.",
                )
            self._digests: dict[str, str] = {}
            for name, layer in named:
                if name in self._digests:
                    raise origin.bad(f"two layers are named {name}.", "Push every file under a name of its own.")
                self._digests[name] = self._sha256(name, str(layer["digest"]))
            entries = [
                FileEntry(name, int(layer["size"]), self._digests[name].removeprefix("sha256:"))
                for name, layer in named
            ]
        super().__init__(uri, digest, entries, origin, settings)

    @contextmanager
    def open_range(self, path: str, start: int, stop: int | None) -> Iterator[Body]:
        """A range of the layer's blob."""
        url = f"{self._base}/blobs/{self._digests[path]}"
        with self._request(url, range_header(start, stop)) as response:
            yield body_from(self._origin, response, path, start)

    @contextmanager
    def _request(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """One attempt, logged in: the registry says how when it is asked, and again when a token has expired."""
        with self._client.send("GET", url, headers | self._login.headers) as response:
            if response.status_code != 401:
                yield response
                return
            challenge = response.headers.get("www-authenticate", "")
        self._login.answer(challenge, url)
        with self._client.send("GET", url, headers | self._login.headers) as response:
            yield response

    def _sha256(self, what: str, digest: str) -> str:
        """The digest; SourceError when it is not one that what comes is compared with."""
        if not _SHA256.fullmatch(digest):
            raise self._origin.bad(
                f"{what} has the digest {digest[:20]}..., and only sha256 can be checked.",
                "Push it with sha256 digests, as `oras push` does.",
            )
        return digest

    def _manifest(self, reference: str) -> tuple[str, dict[str, Any]]:
        """Digest and manifest of a tag or digest."""
        if ":" in reference:
            self._sha256("the manifest", reference)

        def once() -> bytes:
            with self._request(f"{self._base}/manifests/{reference}", {"Accept": ", ".join(ACCEPTED)}) as response:
                if response.status_code >= 400:
                    wait = retry_after(response.headers)
                    raise self._origin.from_status(response.status_code, f"manifest {reference}", wait)
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > MANIFEST_LIMIT_BYTES:
                        raise self._origin.damaged("the manifest", "it is longer than 4 MiB")
                return bytes(data)

        data = retry(once, self._origin, self._settings)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if ":" in reference and reference != digest:
            raise self._origin.damaged("the manifest", f"it has the digest {digest}, not {reference}")
        try:
            manifest = json.loads(data)
        except (ValueError, RecursionError):
            manifest = None
        if not isinstance(manifest, dict):
            raise self._origin.damaged("the manifest", "it is no JSON object")
        return digest, manifest

    def _first(self, index: dict[str, Any]) -> str:
        manifests = index.get("manifests") or []
        if len(manifests) != 1:
            raise self._origin.bad(
                f"it is an index of {len(manifests)} manifests.",
                "Name one of them: oci://registry/repository@sha256:...",
            )
        return str(manifests[0].get("digest"))


def _account(host: str, secrets: Secrets) -> tuple[str, str] | None:
    user, password = secrets.get(OCI_USERNAME), secrets.get(OCI_PASSWORD)
    if user and password:
        return user, password
    return stored_account(host, secrets.environ) if secrets.from_environment else None


def _name(layer: dict[str, Any]) -> str | None:
    annotations = layer.get("annotations") or {}
    for key in NAME_ANNOTATIONS:
        if name := annotations.get(key):
            return str(name).removeprefix("./")
    return NAMES_BY_TYPE.get(str(layer.get("mediaType")))


def _is_archive(layer: dict[str, Any]) -> bool:
    kind = str(layer.get("mediaType", ""))
    return kind.endswith((".tar", "+gzip", "+zstd", ".tar.gzip")) or ".tar+" in kind
