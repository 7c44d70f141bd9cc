"""Our own images: built from our Dockerfiles on the base image, pushed where the cluster pulls them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster import base, buildah, existing, kind, packages
from cluster.artefact import alone
from cluster.console import ClusterError, run, stage
from cluster.layout import REGISTRY, REPOSITORY, cache


@dataclass(frozen=True, slots=True)
class Image:
    """A Dockerfile of the repository, the name it is built under, and the stage that it is (default: the last)."""

    name: str
    dockerfile: str
    target: str = ""


IMAGES = {
    "operator": Image("llmservice-operator:dev", "operator/Dockerfile"),
    "runtime": Image("llmservice-runtime:dev-llamacpp-cpu", "runtime/Dockerfile", "llamacpp-cpu"),
}
TOOLS = {"client": Image("llmservice-e2e-client:dev", "e2e/kubernetes/client/Dockerfile")}
"""Images of the tests: built when asked for by name."""


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
    }
    with stage(f"image {image.name}"):
        return buildah.build(
            image.name,
            REPOSITORY / image.dockerfile,
            REPOSITORY,
            arguments,
            {wheels: "/wheels:rw"},
            cache() / f"{key}-image.log",
            image.target,
        )


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


def _version() -> str:
    for line in (REPOSITORY / "pyproject.toml").read_text().splitlines():
        if line.startswith("version = "):
            return line.split('"')[1]
    raise ClusterError("pyproject.toml states no version.")
