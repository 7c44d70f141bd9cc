"""Our own images: built from our Dockerfiles on the base image, pushed where the cluster pulls them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cluster import base, buildah, existing, kind, packages, registry
from cluster.artefact import alone
from cluster.console import ClusterError, run, stage
from cluster.layout import REGISTRY, REPOSITORY, any_cluster, cache


@dataclass(frozen=True, slots=True)
class Image:
    """A Dockerfile of the repository, the name it is built under, and the stage that it is (default: the last)."""

    name: str
    dockerfile: str
    target: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    gigabytes: int = 2
    """What building takes of the disk, at most, beside what is there."""
    held: int = 1
    """What it takes once it is built, in the registry and on one node, where all of them are on this machine."""


FOR_GPUS = {"DEVICE": "cuda"}
IMAGES = {
    "operator": Image("llmservice-operator:dev", "operator/Dockerfile"),
    "runtime": Image("llmservice-runtime:dev-llamacpp-cpu", "runtime/Dockerfile", "llamacpp-cpu"),
}
TOOLS = {
    "client": Image("llmservice-e2e-client:dev", "e2e/kubernetes/client/Dockerfile"),
    "engines": Image("llmservice-runtime:dev-engines-cpu", "runtime/Dockerfile", "engines-cpu", gigabytes=18, held=22),
    "cuda": Image("llmservice-runtime:dev-cuda", "runtime/Dockerfile", "cuda", arguments=FOR_GPUS, gigabytes=30),
    "engines-cuda": Image(
        "llmservice-runtime:dev-engines-cuda", "runtime/Dockerfile", "engines-cuda", arguments=FOR_GPUS, gigabytes=34
    ),
}
"""Images of some tests, and large ones: built when asked for by name."""


_LLAMA, _TORCH = (
    {"llama.cpp": ("llamacpp", "llama_cpp")},
    {
        "Transformers": ("transformers", "transformers"),
        "vLLM": ("vllm", "vllm"),
        "PyTorch": ("vllm", "torch"),
    },
)
ENGINES = {
    "llamacpp-cpu": _LLAMA,
    "engines-cpu": _TORCH | _LLAMA,
    "cuda": _TORCH,
    "engines-cuda": _TORCH | _LLAMA,
}
"""What runs in the images of a stage: an environment below /opt/llmservice/engines, and what is imported there."""


def build(key: str, native: bool = False) -> str:
    """Build one image into buildah's storage; its digest.

    `native`: engines for this very CPU, from the wheels that `make up` built; for a cluster on this machine only.
    """
    image = _image(key)
    # An engine's wheel outlives the build that made it.
    wheels = cache().parent / "wheels" if native else cache() / "image-wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    arguments = {
        "BASE": base.import_base(),
        "DEBIAN_MIRROR": base.mirror(),
        "DEBIAN_SUITE": base.SUITE,
        "LLAMACPP_OPTIONS": "" if native else "--portable",
        "VERSION": _version(),
        "REVISION": run("git", "-C", REPOSITORY, "rev-parse", "HEAD").strip(),
        **image.arguments,
    }
    if key == "operator":  # its page's libraries, by this machine's npm; without one the build brings its own
        subprocess.run([sys.executable, REPOSITORY / "operator" / "llmservice_console" / "vendor.py"], check=False)
    with stage(f"image {image.name}"):
        return buildah.build(
            image.name,
            REPOSITORY / image.dockerfile,
            REPOSITORY,
            arguments,
            {wheels: "/wheels:rw", _uv_cache(): "/uv:rw"},
            cache() / f"{key}-image.log",
            image.target,
        )


def build_all(keys: Iterable[str], native: bool = False) -> list[str]:
    """Build images into buildah's storage; their names with their digests."""
    make_room(keys := list(keys))
    packages.install(packages.FOR_IMAGES)
    built = []
    for key in keys:
        with alone(f"image-{key}"):
            built.append(f"{_image(key).name} {build(key, native)}")
    return built


def versions(keys: Iterable[str]) -> list[str]:
    """A line for each engine of built runtime images: it is imported in a container, without a GPU."""
    wanted = {key: _image(key) for key in keys}
    if others := [image.name for image in wanted.values() if image.target not in ENGINES]:
        raise ClusterError(f"{' and '.join(others)} has no engines.", "Use runtime, engines, cuda or engines-cuda.")
    packages.install(packages.FOR_IMAGES)
    lines = []
    for key, image in wanted.items():
        with alone(f"image-{key}"), stage(f"engines of {image.name}"):
            told = buildah.say(image.name, {name: _version_of(*words) for name, words in ENGINES[image.target].items()})
        lines += [f"{image.name} {name} {text}" for name, text in told.items()]
    return lines


def _version_of(folder: str, package: str) -> list[str]:
    return [f"/opt/llmservice/engines/{folder}/bin/python", "-c", f"import {package}; print({package}.__version__)"]


def reproduce(keys: Iterable[str], native: bool = False) -> list[str]:
    """Build each twice from the one base archive, both times where nothing was built before; the equal digests."""
    packages.install(packages.FOR_IMAGES)
    found = []
    for key in keys:
        first, second = _afresh(key, native), _afresh(key, native)
        if first != second:
            raise ClusterError(
                f"Two builds of {key} differ: {first} and {second}.",
                f"See {cache()}/{key}-image.log for what was built.",
            )
        found.append(f"{_image(key).name} {first}")
    return found


def _afresh(key: str, native: bool) -> str:
    with alone(f"image-{key}"), buildah.empty_storage():
        build(key, native)
        return buildah.manifest(_image(key).name)


def load(provider: str, keys: Iterable[str], native: bool = False) -> list[str]:
    """Build and hand to the cluster; the references that pods use, by digest where there is a registry."""
    make_room(keys := list(keys), here=provider != "existing")
    packages.install(packages.FOR_IMAGES)
    return [_load(provider, key, native) for key in keys]


def _load(provider: str, key: str, native: bool) -> str:
    name = _image(key).name
    with alone(f"image-{key}"):  # another checkout's build takes the same name: what is handed over is what was built
        build(key, native)
        if provider == "kind":
            archive = cache() / f"{key}.tar"
            buildah.export(name, archive)
            kind.load(archive)
            return f"localhost/{name}"
        with stage(f"push {name}"):
            return buildah.push(name, REGISTRY if provider == "bare" else existing.registry())


def _image(key: str) -> Image:
    known = IMAGES | TOOLS
    if key not in known:
        raise ClusterError(f"There is no image {key}.", f"Use one of: {', '.join(known)}.")
    return known[key]


def _uv_cache() -> Path:
    """uv's, which has what engines of this machine were made of: lent to a build, nothing is fetched twice."""
    folder = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_room(keys: Iterable[str], here: bool = False) -> None:
    """Free what earlier builds have left, where the disk lacks room to build these images. ClusterError where it still
    does: now, not in the middle of the largest.

    `here`: the cluster that pulls them is on this machine.
    """
    wanted = [_image(key) for key in keys]
    need = max(image.gigabytes for image in wanted)
    need = max(need, sum(image.held for image in wanted)) if here else need
    if _free() < need:
        prune()
    if (free := _free()) < need:
        raise ClusterError(
            f"Building {' and '.join(image.name for image in wanted)}{' and running them' if here else ''} takes up to "
            f"{need} GB, and {cache()} has {free:.0f} GB free.",
            "Free space there, or let LLMSERVICE_CACHE_DIR name a folder on another disk.",
        )


def _free() -> float:
    """GB."""
    cache().mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(cache()).free / 1e9


def prune() -> None:
    """Remove what builds have left that no image of a name needs, also from the registry of this machine's cluster."""
    with ExitStack() as held:
        for key in sorted(IMAGES | TOOLS):
            held.enter_context(alone(f"image-{key}"))
        buildah.prune()
        if not any_cluster():  # pods that run name what they pulled by digest, tagged or not
            registry.prune()


def _version() -> str:
    for line in (REPOSITORY / "pyproject.toml").read_text().splitlines():
        if line.startswith("version = "):
            return line.split('"')[1]
    raise ClusterError("pyproject.toml states no version.")
