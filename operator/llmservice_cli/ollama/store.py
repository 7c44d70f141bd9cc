"""Ollama's store: `manifests/HOST/NAMESPACE/MODEL/TAG` name the blobs of a model, `blobs/sha256-...` are its files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmservice_cli.ollama.names import OllamaName, parse_name
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass

STORE_ENV = "OLLAMA_MODELS"
SERVICE_STORE = Path("/usr/share/ollama/.ollama/models")
"""Of Ollama where systemd runs it, as a user of its own."""
KIND = "application/vnd.ollama.image."
MODEL, PROJECTOR, ADAPTER, TENSOR = "model", "projector", "adapter", "tensor"
MANIFEST_BYTES = 1 << 20
TEXT_BYTES = 1 << 20
"""Of a layer that is a text."""
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Layer:
    """A blob of a model: what it is (`model`, `projector`, `system`, ...), where, and how many bytes it should have."""

    kind: str
    blob: Path
    size: int


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """One name in a `store`. `digest` is what `ollama list` shows as ID, `changed` Unix time; `problem` says why it
    can't be served: a sentence, and what to do. None = it can."""

    name: OllamaName
    store: Path
    digest: str
    changed: float
    layers: tuple[Layer, ...] = ()
    problem: UserError | None = field(default=None, compare=False)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(layer.size for layer in self.layers)

    def layer(self, kind: str) -> Layer | None:
        """The first one of a kind."""
        return next((layer for layer in self.layers if layer.kind == kind), None)

    def text(self, kind: str) -> str:
        """A layer that is a text; empty where there is none, or it can't be read or is too long."""
        layer = self.layer(kind)
        try:
            return "" if layer is None else _read(layer.blob, TEXT_BYTES).decode(errors="replace")
        except (OSError, ValueError):
            return ""


def stores(environ: Mapping[str, str] | None = None) -> list[Path]:
    """Where models of Ollama's may be: OLLAMA_MODELS alone where it is set, else the user's and the service's."""
    env = os.environ if environ is None else environ
    if told := env.get(STORE_ENV):
        return [Path(told).expanduser().absolute()]
    return [Path(env.get("HOME") or Path.home()) / ".ollama" / "models", SERVICE_STORE]


@dataclass(frozen=True, slots=True)
class Found:
    """Models of all stores, in the order of their names, and why a store that is there could not be read."""

    models: tuple[OllamaModel, ...]
    unread: tuple[UserError, ...] = ()

    def named(self, text: str) -> OllamaModel | None:
        """The one that a name means: as it is written, or else whatever its upper and lower case."""
        if (name := parse_name(text)) is None:
            return None
        alike = [model for model in self.models if model.name.folded == name.folded]
        return next((model for model in alike if model.name == name), next(iter(alike), None))


def kept(among: Sequence[Path]) -> Found:
    """What these stores have; of two that have the same name the first counts."""
    found: dict[OllamaName, OllamaModel] = {}
    unread = []
    for store in among:
        try:
            for path in _manifests(store):
                name = OllamaName(*path.relative_to(store / "manifests").parts)
                if name not in found:
                    found[name] = _opened(store, path, name)
        except OSError as error:
            unread.append(_unreadable(store, error))
    return Found(tuple(sorted(found.values(), key=lambda model: model.name.shown)), tuple(unread))


def _manifests(store: Path) -> Iterator[Path]:
    """Files four levels below `manifests`. OSError where one of the folders can't be read."""
    if not (store / "manifests").is_dir():
        return
    for folder, folders, files in os.walk(store / "manifests", onerror=_raise):
        folders.sort()
        if len(Path(folder).relative_to(store).parts) == 4:
            folders.clear()
            paths = (Path(folder, file) for file in sorted(files) if not file.startswith("."))
            yield from (path for path in paths if path.is_file())  # what is no file may never end


def _raise(error: OSError) -> None:
    raise error


def _opened(store: Path, path: Path, name: OllamaName) -> OllamaModel:
    """What a manifest says, and whether its files are there."""
    digest, changed = "", 0.0
    try:
        changed = path.stat().st_mtime
        data = _read(path, MANIFEST_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        layers = tuple(_layers(store, json.loads(data)))
    except OSError as error:
        return OllamaModel(name, store, digest, changed, problem=_unreadable(path, error))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        reason = f"Ollama's manifest of {name.shown} is damaged: {path}."
        return OllamaModel(name, store, digest, changed, problem=_again(reason, name))
    return OllamaModel(name, store, digest, changed, layers, _problem(name, layers))


def _layers(store: Path, manifest: Any) -> Iterator[Layer]:
    for layer in manifest["layers"]:
        found = _DIGEST.fullmatch(layer["digest"])
        if found is None or type(layer["size"]) is not int or layer["size"] < 0:
            raise ValueError
        kind = str(layer["mediaType"]).partition(";")[0].removeprefix(KIND)
        yield Layer(kind, store / "blobs" / f"sha256-{found[1].lower()}", layer["size"])


def _problem(name: OllamaName, layers: Sequence[Layer]) -> UserError | None:
    """Why a model can't be served from where it lies."""
    kinds = [layer.kind for layer in layers]
    if MODEL not in kinds:
        what = "is kept as single tensors, not as GGUF" if TENSOR in kinds else "has no files here: it runs elsewhere"
        return UserError(
            f"{name.shown} of Ollama's {what}.", "Serve it from a hub: llmservice run OWNER/NAME.",
            FailureClass.UNSUPPORTED_FORMAT,
        )  # fmt: skip
    if ADAPTER in kinds or kinds.count(MODEL) > 1:
        what = "has a LoRA adapter that Ollama always adds" if ADAPTER in kinds else "is split into several files"
        return UserError(
            f"{name.shown} of Ollama's {what}, which is not served from its store.",
            "Serve the model it is made of, and put the adapter into spec.adapters of a manifest."
            if ADAPTER in kinds
            else "Serve it from a hub: llmservice run OWNER/NAME.",
            FailureClass.UNSUPPORTED_FORMAT,
        )
    for layer in layers:
        if layer.kind in (MODEL, PROJECTOR) and (problem := _of_blob(name, layer)):
            return problem
    return None


def _of_blob(name: OllamaName, layer: Layer) -> UserError | None:
    try:
        found = layer.blob.stat()
        if not stat.S_ISREG(found.st_mode):  # what is no file may never end
            return _again(f"{name.shown} of Ollama's is damaged: {layer.blob} is no file.", name)
        with layer.blob.open("rb"):
            pass
    except FileNotFoundError:
        return _again(f"{name.shown} of Ollama's lacks its file {layer.blob}.", name)
    except OSError as error:
        return _unreadable(layer.blob, error)
    if found.st_size != layer.size:
        had = f"{found.st_size} bytes of {layer.size}"
        return _again(f"{name.shown} of Ollama's is damaged: {layer.blob} has {had}.", name)
    return None


def _again(reason: str, name: OllamaName) -> UserError:
    return UserError(reason, f"Let Ollama fetch it again: ollama pull {name.shown}.", FailureClass.MODEL_DAMAGED)


def _unreadable(path: Path, error: OSError) -> UserError:
    """Ollama that systemd runs keeps its models as a user of its own."""
    return UserError(
        f"Ollama's {path} can't be read: {error.strerror or error}.",
        "Let this user read it (sudo usermod -aG ollama $USER, then log in again), or name a store that it may read in "
        f"{STORE_ENV}.",
        FailureClass.VOLUME_FAILED,
    )


def _read(path: Path, most: int) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is no file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path} has more than {most} bytes")
    return data
