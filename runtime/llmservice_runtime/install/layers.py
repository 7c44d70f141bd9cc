"""Layers: packages that several engines share, in a folder of their own beside the environments that lead there."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from llmservice_runtime.engines.base.recipe import Layer, Slim
from llmservice_runtime.engines.base.torch_layer import TORCH
from llmservice_runtime.install.environment import DONE, STAMP, engines_dir
from llmservice_runtime.install.lockfile import entries, names
from llmservice_runtime.install.space import NOTHING, Size, gigabytes, require_space, size_of, target
from llmservice_runtime.install.uv import Uv
from llmservice_runtime.install.wheel import exclusive

INDEX_ENV = "LLMSERVICE_TORCH_CPU_INDEX"
"""Where torch's build for CPUs is looked for instead; empty = nowhere."""
REACH_SECONDS = 5.0
UNPACKED = 4
"""What is in torch's CPU wheel, by its size; no more."""


@dataclass(frozen=True, slots=True)
class Part:
    """A layer as it is installed here: from which lock and index (empty = as pip is set up), into which folder."""

    name: str
    lock: Path
    folder: Path
    index: str = ""
    size: Size = NOTHING

    @property
    def complete(self) -> bool:
        """Whether it is there, whole."""
        return (self.folder / DONE).is_file()


def choose(layer: Layer, engines: Path, environ: Mapping[str, str] | None = None) -> Part:
    """What is there already; else the slim build, where its index can be reached and has it; else the full one."""
    full = Part(layer.name, layer.lock, _folder(layer.name, layer.lock, engines), size=size_of(layer.lock))
    if layer.slim is None:
        return full
    slim = Part(layer.name, layer.slim.lock, _folder(layer.name, layer.slim.lock, engines))
    if slim.complete or full.complete:
        return slim if slim.complete else full
    index = (os.environ if environ is None else environ).get(INDEX_ENV, layer.slim.index)
    fetched = _reach(layer.slim, index) if index else 0
    if not fetched:
        return full
    return Part(layer.name, layer.slim.lock, slim.folder, index, Size(fetched, UNPACKED * fetched))


def fill(part: Part, uv: Uv) -> None:
    """Install a layer unless it is there. Interrupted anywhere, it is not taken for whole."""
    part.folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(
        part.folder.with_name(f".{part.folder.name}.lock"), f"another process installs {part.name}; waiting"
    ):
        if part.complete:
            return
        if part.folder.exists():
            shutil.rmtree(part.folder)
        uv.install(["--target", str(part.folder)], part.lock, part.name, part.size.fetched, part.index)
        (part.folder / DONE).touch()


def prune(known: Iterable[Layer], engines: Path) -> None:
    """Remove layers of these names that no lock leads to any more, and no environment that is there."""
    keep, layers = set(), tuple(known)
    for layer in layers:
        locks = [layer.lock, *([layer.slim.lock] if layer.slim else [])]
        keep |= {_folder(layer.name, lock, engines).name for lock in locks}
    for stamp in engines.glob(f"*/{STAMP}"):
        keep |= set(json.loads(stamp.read_text()).get("layers", ()))
    for name in {layer.name for layer in layers}:
        for folder in engines.glob(f"{name}-*"):
            if folder.is_dir() and folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)


def without(lock: str, layers: tuple[Layer, ...]) -> str:
    """A lock without what its layers have."""
    theirs = {name for layer in layers for name in names(layer.lock.read_text())}
    return "".join(entry for entry in entries(lock) if names(entry)[0] not in theirs)


def main(argv: list[str] | None = None) -> int:
    """`python -m llmservice_runtime.install.layers`: torch alone, for an image that stores it once; 0 = it is there."""
    parser = argparse.ArgumentParser(prog="llmservice_runtime.install.layers")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    layer = replace(TORCH, slim=None) if parser.parse_args(argv).device == "cuda" else TORCH
    engines = engines_dir()
    engines.mkdir(parents=True, exist_ok=True)
    part = choose(layer, engines)
    sys.stderr.write(f"{part.name}: {gigabytes(part.size.fetched)} from {part.index or 'the package index'}\n")
    require_space([(engines, part.size.unpacked)])
    fill(part, Uv(engines / "torch.log"))
    return 0


def _folder(name: str, lock: Path, engines: Path) -> Path:
    digest = hashlib.sha256(lock.read_bytes() + target().encode()).hexdigest()
    return engines / f"{name}-{digest[:12]}"


def _reach(slim: Slim, index: str) -> int:
    """Bytes of the slim build's wheel for this machine and Python, as its index says; 0 = it can't be had there now."""
    import urllib.request  # a fifth of what a command imports, and only an installation asks
    from urllib.parse import unquote, urljoin

    package = names(slim.lock.read_text())[0]
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    machine = target().partition("-")[0]
    locked = set(re.findall(r"sha256:([0-9a-f]{64})", slim.lock.read_text()))
    page = f"{index.rstrip('/')}/{package}/"
    try:
        with urllib.request.urlopen(page, timeout=REACH_SECONDS) as answer:
            text = answer.read().decode(errors="replace")
        for link in re.findall(r'href="([^"]+)"', text):
            address, _, fragment = link.partition("#sha256=")
            wheel = unquote(address)
            if fragment in locked and f"-{python}-" in wheel and wheel.endswith(f"{machine}.whl"):
                ask = urllib.request.Request(urljoin(page, address), method="HEAD")
                with urllib.request.urlopen(ask, timeout=REACH_SECONDS) as answer:
                    return int(answer.headers["Content-Length"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
