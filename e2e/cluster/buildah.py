"""Image builds by buildah, without a daemon; its storage lies in the cache, so a build starts from what was built."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from tempfile import NamedTemporaryFile

from cluster.console import run, run_logged
from cluster.layout import REGISTRY, cache

EPOCH = "1700000000"
"""The time of every file and image, so that equal input gives an equal digest."""
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def _buildah(*words: str | Path) -> list[str | Path]:
    storage = cache() / "images"
    return ["buildah", "--root", storage / "root", "--runroot", storage / "run", *words]


ENVIRONMENT = {"BUILDAH_ISOLATION": "chroot", "SOURCE_DATE_EPOCH": EPOCH}


@contextmanager
def in_use() -> Iterator[None]:
    """Held while something is built or pushed: `down` unmounts the storage only when nobody does."""
    (cache() / "images").mkdir(parents=True, exist_ok=True)
    with (cache() / "images" / ".lock").open("w") as lock:
        flock(lock, LOCK_SH)
        yield


def unmount_storage() -> bool:
    """buildah leaves its storage mounted. False = a build is running, and what it mounted stays."""
    storage = cache() / "images"
    if not storage.exists():
        return True
    with (storage / ".lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
        points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for point in reversed(points):
            if point.startswith(f"{storage}/"):
                run("umount", point)
    return True


def import_tree(tar: Path, image: str) -> None:
    """An image of one layer from a tar archive."""
    if run(*_buildah("images", "--quiet", "--filter", f"reference={image}"), env=ENVIRONMENT).strip():
        return
    folder = tar.parent / f".{image.replace(':', '-')}"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM scratch\nADD {tar.name} /\n")
    run_logged(
        folder / "build.log",
        *_buildah("bud", "--timestamp", EPOCH, "-t", image, "-f", folder / "Dockerfile", tar.parent),
        env=ENVIRONMENT,
    )


def build(
    image: str, dockerfile: Path, context: Path, arguments: Mapping[str, str], volumes: Mapping[Path, str], log: Path
) -> str:
    """Build an image; its digest. The machine's certificates and pip settings are lent to the build, never kept."""
    lent: list[str] = []
    for path, place in {**volumes, **_settings_of_this_machine()}.items():
        lent += ["--volume", f"{path}:{place}"]
    given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    if CA_BUNDLE.exists():
        given += ["--build-arg", f"SSL_CERT_FILE={CA_BUNDLE}"]
    run_logged(
        log,
        *_buildah(
            "bud",
            "--timestamp",
            EPOCH,
            "--layers",
            "--pull-never",
            "-t",
            image,
            *lent,
            *given,
            "-f",
            dockerfile,
            context,
        ),
        env=ENVIRONMENT,
    )
    return digest(image)


def digest(image: str) -> str:
    """The digest of a built image's manifest."""
    format = "{{.FromImageDigest}}"
    return run(*_buildah("inspect", "--type", "image", "--format", format, image), env=ENVIRONMENT).strip()


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
