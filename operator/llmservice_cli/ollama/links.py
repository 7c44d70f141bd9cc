"""A model of Ollama's as files with names that say what they are: links to its blobs, which stay where they are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmservice_cli.ollama.names import OllamaName
from llmservice_cli.ollama.store import MODEL, PROJECTOR, OllamaModel, kept, stores
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass

FOLDER = "ollama"
"""Below the cache."""
LEVELS = (FOLDER, "host", "namespace", "model", "tag")
"""From there to the links of a model."""


def folder_of(name: OllamaName, cache: Path) -> Path:
    """Where the links of a model stand."""
    return cache / FOLDER / name.host.replace(":", "-") / name.namespace / name.model / name.tag


def linked(model: OllamaModel, cache: Path) -> Path:
    """The folder with the links, made or brought up to date. UserError where the model can't be served, or the cache
    can't be written."""
    if model.problem is not None:
        raise model.problem
    folder, stem = folder_of(model.name, cache), f"{model.name.model}-{model.name.tag}"
    wanted = {f"{stem}.gguf": model.layer(MODEL), f"mmproj-{stem}.gguf": model.layer(PROJECTOR)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, layer in wanted.items():
            if layer is not None:
                _link(folder / name, layer.blob)
            else:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache {cache} can't be written: {error.strerror or error}: {error.filename}.",
            "Give the folder to this user, or choose another one (LLMSERVICE_CACHE_DIR).",
            FailureClass.VOLUME_FAILED,
        ) from None
    return folder


def relinked(model: OllamaModel, cache: Path) -> bool:
    """Whether the links were there and led to other files: Ollama has pulled another version since. They follow it;
    those of a model that can't be served now stay as they are. UserError as `linked`."""
    if model.problem is not None:
        return False
    before = _leads(folder_of(model.name, cache))
    return bool(before) and _leads(linked(model, cache)) != before


def revision_at(folder: Path, cache: Path) -> str:
    """Which of Ollama's files the links there lead to; empty where there are none."""
    return _revision(_leads(folder).values()) if cache / FOLDER in folder.parents else ""


def newer(entry: Mapping[str, Any], cache: Path) -> OllamaModel | None:
    """The model of a service of a snapshot, where Ollama has pulled another version of it than what was planned; None
    where it has not, or that can't be served."""
    told, uri = entry["object"]["status"].get("model") or {}, entry["object"]["spec"]["model"]["uri"]
    if not (planned := told.get("resolvedRevision")) or not uri.startswith("file://"):
        return None
    model = of_folder(Path(uri.removeprefix("file://")), cache)
    if model is None or model.problem is not None:
        return None
    layers = [model.layer(kind) for kind in (MODEL, PROJECTOR)]
    return model if _revision([layer.blob for layer in layers if layer is not None]) != planned else None


def of_folder(folder: Path, cache: Path) -> OllamaModel | None:
    """The model whose links are to stand there; None where it is no such folder, or Ollama has it no more."""
    if cache / FOLDER not in folder.parents:
        return None
    return next((model for model in kept(stores()).models if folder_of(model.name, cache) == folder), None)


def mend(model_path: Path) -> bool:
    """Have links that lead nowhere follow Ollama, which has pulled another version and removed the one before; whether
    they do. A model of somebody else's is not even looked at. UserError as `linked`."""
    folder = model_path.parent if model_path.suffix == ".gguf" else model_path
    above = folder.parents[: len(LEVELS)]
    if len(above) < len(LEVELS) or above[-2].name != FOLDER:
        return False
    if all(map(os.path.exists, folder.glob("*.gguf"))):  # Path.exists raises for what leads where one may not look
        return False
    cache = above[-1]
    model = of_folder(folder, cache)
    return model is not None and relinked(model, cache)


def _revision(blobs: Iterable[Path]) -> str:
    return "+".join(sorted(blob.name for blob in blobs))


def _leads(folder: Path) -> dict[str, Path]:
    return {link.name: link.readlink() for link in folder.glob("*.gguf") if link.is_symlink()}


def _link(path: Path, blob: Path) -> None:
    """A link is there at every moment: a replica may start at any."""
    with contextlib.suppress(OSError):
        if path.readlink() == blob:
            return
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(blob)
    new.replace(path)
