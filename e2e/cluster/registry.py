"""The local image registry on the bridge. Its content is kept in the cache, so a warm start pushes nothing."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from tempfile import NamedTemporaryFile

from cluster import layout
from cluster.console import run, wait_until
from cluster.controlplane import DAEMONS
from cluster.layout import State
from cluster.processes import start

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def up(state: State) -> None:
    """Start it and wait until it answers."""
    file = state.root / "registry.json"
    _configure(file)
    start(state, "registry", ["docker-registry", "serve", file], DAEMONS)
    wait_until(ready, "The image registry", 30, state.log("registry"))


def ready() -> bool:
    """Whether it answers."""
    return _get("") is not None


def has(image: str, tag: str) -> bool:
    """Whether this tag was pushed."""
    return _get(f"{image}/manifests/{tag}") is not None


def prune() -> None:
    """Remove what no tag leads to any more. It must not run."""
    if (layout.cache() / "registry").exists():
        with NamedTemporaryFile(suffix=".json") as file:
            _configure(Path(file.name))
            run("docker-registry", "garbage-collect", "--delete-untagged", file.name)


def _configure(file: Path) -> None:
    config = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(layout.cache() / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": layout.REGISTRY},
    }
    file.write_text(json.dumps(config))


def _get(path: str) -> bytes | None:
    accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(f"http://{layout.REGISTRY}/v2/{path}", headers={"Accept": accept})
    try:
        with _direct.open(request, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return None
