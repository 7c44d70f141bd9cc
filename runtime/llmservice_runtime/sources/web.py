"""http(s)://: one model file, or a base URL under which the usual file names are probed (no index is needed)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx

from llmservice_runtime.sources.errors import Origin
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.http import HttpClient, open_range, retry_after
from llmservice_runtime.sources.pin import check_pin
from llmservice_runtime.sources.remote import Body, RemoteFiles
from llmservice_runtime.sources.retry import retry
from llmservice_runtime.sources.secrets import HTTP_BEARER_TOKEN, HTTP_PASSWORD, HTTP_USERNAME, Secrets
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.shards import siblings
from llmservice_runtime.sources.uri import ModelUri

KEYS = f"{HTTP_BEARER_TOKEN}, or {HTTP_USERNAME} and {HTTP_PASSWORD}"
FILE_SUFFIXES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ggml", ".onnx", ".npz")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
KNOWN_NAMES = (
    "config.json",
    "params.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "quantize_config.json",
    "hf_quant_config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "model.safetensors",
    "consolidated.safetensors",
    "pytorch_model.bin",
    *INDEXES,
)
PROBES_AT_ONCE = 8
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


@dataclass(frozen=True, slots=True)
class _Probe:
    name: str
    size: int
    etag: str
    modified: str


class WebFiles(RemoteFiles):
    """Files of a plain web server. The revision is a digest of names, sizes and ETags (or modification dates)."""

    def __init__(self, uri: ModelUri, revision: str | None, secrets: Secrets, settings: SourceSettings) -> None:
        origin = Origin(uri.shown, f"the server {uri.container}", KEYS)
        self._client = HttpClient(origin, settings, _credentials(secrets))
        self._parts = urlsplit(uri.text)
        single = self._parts.path.lower().endswith(FILE_SUFFIXES)
        self._folder = self._parts.path.rpartition("/")[0] if single else self._parts.path.rstrip("/")
        self._origin = origin
        probes = self._single(unquote(self._parts.path.rpartition("/")[2])) if single else self._known()
        self._etags = {probe.name: probe.etag for probe in probes}
        lines = sorted(f"{probe.name}\0{probe.size}\0{probe.etag or probe.modified}" for probe in probes)
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:40]
        check_pin(origin, revision, digest)
        super().__init__(uri, digest, [FileEntry(probe.name, probe.size) for probe in probes], origin, settings)

    @contextmanager
    def open_range(self, path: str, start: int, stop: int | None) -> Iterator[Body]:
        """Range request."""
        with open_range(self._client, self._url(path), path, start, stop, self._etags[path]) as body:
            yield body

    def _url(self, name: str) -> str:
        return urlunsplit(self._parts._replace(path=f"{self._folder}/{quote(name)}"))

    def _single(self, name: str) -> list[_Probe]:
        return [self._needed(part) for part in siblings(name)]

    def _known(self) -> list[_Probe]:
        """Whatever of the usual names exists, and the shards that an index names."""
        found = self._probe_all(KNOWN_NAMES)
        names = {probe.name for probe in found}
        if not names & {"config.json", "params.json", "adapter_config.json"}:
            raise self._origin.bad(
                "there is no config.json under that URL, and a plain web server can't be asked what it has.",
                "Name the model file itself (a .gguf), or the folder that holds config.json.",
            )
        shards: set[str] = set()
        for index in names.intersection(INDEXES):
            shards |= self._shards(index)
        return found + [self._needed(name) for name in sorted(shards - names)]

    def _probe_all(self, names: Iterable[str]) -> list[_Probe]:
        with ThreadPoolExecutor(PROBES_AT_ONCE) as pool:
            return [probe for probe in pool.map(self._probe, names) if probe is not None]

    def _needed(self, name: str) -> _Probe:
        probe = self._probe(name, optional=False)
        if probe is None:
            raise self._origin.missing(f"file {name}")
        return probe

    def _probe(self, name: str, optional: bool = True) -> _Probe | None:
        """Size and validator by a GET of one byte: pre-signed URLs allow no HEAD. None = there is no such file."""

        def once() -> _Probe | None:
            with self._client.send("GET", self._url(name), {"Range": "bytes=0-0"}) as response:
                status = response.status_code
                # S3 and others answer 403 for what does not exist, to those who may not list.
                if status in (404, 410) or (status == 403 and optional and name != "config.json"):
                    return None
                if status == 416:
                    return self._seen(response, name, 0)
                if status >= 400:
                    raise self._origin.from_status(status, f"file {name}", retry_after(response.headers))
                return self._seen(response, name, self._size(response, name))

        return retry(once, self._origin, self._client.settings)

    @staticmethod
    def _seen(response: httpx.Response, name: str, size: int) -> _Probe:
        return _Probe(name, size, response.headers.get("etag", ""), response.headers.get("last-modified", ""))

    def _size(self, response: httpx.Response, name: str) -> int:
        total = _TOTAL.fullmatch(response.headers.get("content-range", ""))
        if response.status_code == 206 and total:
            return int(total[1])
        length = response.headers.get("content-length", "")
        if response.status_code == 200 and length.isdigit() and "content-encoding" not in response.headers:
            return int(length)
        raise self._origin.bad(
            f"the server does not tell the size of {name}.", "It must send Content-Length or answer range requests."
        )

    def _shards(self, index: str) -> set[str]:
        try:
            weights = self._client.json(self._url(index), f"file {index}")["weight_map"]
            return {str(name) for name in weights.values()}
        except (KeyError, TypeError, AttributeError):
            raise self._origin.damaged(index, "it is no index of weights") from None


def _credentials(secrets: Secrets) -> dict[str, str]:
    if token := secrets.get(HTTP_BEARER_TOKEN):
        return {"Authorization": f"Bearer {token}"}
    user, password = secrets.get(HTTP_USERNAME), secrets.get(HTTP_PASSWORD)
    if user is None and password is None:
        return {}
    pair = base64.b64encode(f"{user or ''}:{password or ''}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}
