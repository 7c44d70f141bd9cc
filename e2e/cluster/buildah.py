"""Image builds by buildah, without a daemon; its storage lies in the cache, so a build starts from what was built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from cluster.console import run, run_logged
from cluster.layout import REGISTRY, cache

EPOCH = "1700000000"
"""The time of every file and image, so that equal input gives an equal digest."""
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


BUILD = ("bud", "--timestamp", EPOCH, "--format", "docker")
"""Docker's format: the other one's manifest quotes the base image's digest, of which pushing it makes a second one."""
ENVIRONMENT = {"BUILDAH_ISOLATION": "chroot", "SOURCE_DATE_EPOCH": EPOCH}


def _buildah(*words: str | Path) -> list[str | Path]:
    """buildah leaves its storage mounted: here in a mount namespace that ends with it, however it ends."""
    storage = cache() / "images"
    return ["unshare", "--mount", "buildah", "--root", storage / "root", "--runroot", storage / "run", *words]


def import_tree(tar: Path, image: str) -> None:
    """An image of one layer from a tar archive."""
    if run(*_buildah("images", "--quiet", "--filter", f"reference={image}"), env=ENVIRONMENT).strip():
        return
    folder = tar.parent / f".{image.replace(':', '-')}"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM scratch\nADD {tar.name} /\n")
    run_logged(
        folder / "build.log",
        *_buildah(*BUILD, "-t", image, "-f", folder / "Dockerfile", tar.parent),
        env=ENVIRONMENT,
    )


def build(
    image: str,
    dockerfile: Path,
    context: Path,
    arguments: Mapping[str, str],
    volumes: Mapping[Path, str],
    log: Path,
    reuse: bool = True,
) -> str:
    """Build an image; its digest. The machine's certificates and pip settings are lent to the build, never kept.

    `reuse`: take the layers of an earlier build where their instructions and inputs are the same.
    """
    lent: list[str] = []
    for path, place in {**volumes, **_settings_of_this_machine()}.items():
        lent += ["--volume", f"{path}:{place}"]
    given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    if CA_BUNDLE.exists():
        given += ["--build-arg", f"SSL_CERT_FILE={CA_BUNDLE}"]
    layers = "--layers" if reuse else "--no-cache"
    command = _buildah(*BUILD, layers, "--pull-never", "-t", image, *lent, *given, "-f", dockerfile, context)
    run_logged(log, *command, env=ENVIRONMENT)
    return digest(image)


def digest(image: str) -> str:
    """The digest of a built image: of its configuration, which names every layer by its content."""
    return (
        "sha256:" + run(*_buildah("images", "--quiet", "--no-trunc", image), env=ENVIRONMENT).strip().rpartition(":")[2]
    )


def push(image: str, registry: str = REGISTRY) -> str:
    """Push to a registry (plain HTTP); the reference by digest that pods use.

    The registry's manifest is compressed, so its digest is another than that of the local image.
    """
    target = f"{registry}/{image}"
    with NamedTemporaryFile("r") as found:
        words = ("push", "--tls-verify=false", "--quiet", "--digestfile", found.name, image, f"docker://{target}")
        run(*_buildah(*words), env=ENVIRONMENT)
        return f"{target}@{found.read().strip()}"


def export(image: str, archive: Path) -> None:
    """Write an image as a docker archive."""
    archive.unlink(missing_ok=True)
    run(*_buildah("push", "--quiet", image, f"docker-archive:{archive}:{image}"), env=ENVIRONMENT)


def _settings_of_this_machine() -> dict[Path, str]:
    """Read-only: the certificate bundle, and pip's configuration where the machine has one."""
    found: dict[Path, str] = {}
    if CA_BUNDLE.exists():
        found[CA_BUNDLE] = f"{CA_BUNDLE}:ro"
    if (configuration := Path(os.environ.get("PIP_CONFIG_FILE") or "/etc/pip.conf")).exists():
        found[configuration] = "/etc/pip.conf:ro"
    return found
