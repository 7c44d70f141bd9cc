"""Image builds by buildah, without a daemon; its storage lies in the cache, so a build starts from what was built."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import ip_address
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from urllib.parse import urlsplit

from cluster.artefact import alone
from cluster.console import run, run_logged
from cluster.layout import REGISTRY, cache

EPOCH = "1700000000"
"""The time of every file and image, so that equal input gives an equal digest."""
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


BUILD = ("bud", "--timestamp", EPOCH, "--layers", "--pull-never")
_storage: ContextVar[Path | None] = ContextVar("storage", default=None)
ENVIRONMENT = {"BUILDAH_ISOLATION": "chroot", "SOURCE_DATE_EPOCH": EPOCH}


def _buildah(*words: str | Path) -> list[str | Path]:
    """buildah leaves its storage mounted: here in a mount namespace that ends with it, however it ends."""
    storage = _storage.get() or cache() / "images"
    return ["unshare", "--mount", "buildah", "--root", storage / "root", "--runroot", storage / "run", *words]


@contextmanager
def empty_storage() -> Iterator[None]:
    """For the length of a block images are built where nothing was built before."""
    with TemporaryDirectory(prefix="images-", dir=cache()) as folder:
        token = _storage.set(Path(folder))
        try:
            yield
        finally:
            _storage.reset(token)


def import_tree(tar: Path, image: str) -> None:
    """An image of one layer from a tar archive."""
    name = f"image-{image.replace(':', '-')}"
    with alone(name), TemporaryDirectory(dir=cache()) as folder:
        if run(*_buildah("images", "--quiet", "--filter", f"reference={image}"), env=ENVIRONMENT).strip():
            return
        dockerfile = Path(folder) / "Dockerfile"
        dockerfile.write_text(f"FROM scratch\nADD {tar.name} /\n")
        words = _buildah(*BUILD, "-t", image, "-f", dockerfile, tar.parent)
        run_logged(cache() / f"{name}.log", *words, env=ENVIRONMENT)


def build(
    image: str,
    dockerfile: Path,
    context: Path,
    arguments: Mapping[str, str],
    volumes: Mapping[Path, str],
    log: Path,
    target: str = "",
) -> str:
    """Build an image; its digest. The machine's certificates and pip settings are lent to the build, never kept.

    `target`: the stage that is the image (default: the last).
    """
    lent: list[str] = []
    for path, place in {**volumes, **_settings_of_this_machine()}.items():
        lent += ["--volume", f"{path}:{place}"]
    base = arguments.get("BASE")
    given: list[str] = ["--target", target] if target else []
    given += [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    if CA_BUNDLE.exists():
        given += ["--build-arg", f"SSL_CERT_FILE={CA_BUNDLE}"]
    # Left alone, the manifest quotes a digest of the base that is another one after the base was pushed.
    given += ["--annotation", f"org.opencontainers.image.base.digest={digest(base)}"] if base else []
    run_logged(log, *_buildah(*BUILD, "-t", image, *lent, *given, "-f", dockerfile, context), env=ENVIRONMENT)
    return digest(image)


def prune() -> None:
    """Remove what builds that were ended have left, and intermediate layers: what built images consist of stays.

    Nobody may be building.
    """
    run(*_buildah("rm", "--all"), env=ENVIRONMENT)
    run(*_buildah("rmi", "--prune", "--force"), env=ENVIRONMENT)


def digest(image: str) -> str:
    """The digest of a built image: of its configuration, which names every layer by its content."""
    return (
        "sha256:" + run(*_buildah("images", "--quiet", "--no-trunc", image), env=ENVIRONMENT).strip().rpartition(":")[2]
    )


def manifest(image: str) -> str:
    """The digest of an image's manifest with uncompressed layers."""
    with TemporaryDirectory(dir=cache()) as folder:
        found = Path(folder) / "digest"
        run(*_buildah("push", "--quiet", "--digestfile", found, image, f"dir:{folder}/image"), env=ENVIRONMENT)
        return found.read_text().strip()


def push(image: str, registry: str = REGISTRY) -> str:
    """Push to a registry; the reference by digest that pods use.

    The registry's manifest is compressed, so its digest is another than that of the local image.
    """
    target = f"{registry}/{image}"
    verify = f"--tls-verify={'false' if plain(registry) else 'true'}"
    with NamedTemporaryFile("r") as found:
        run(
            *_buildah("push", verify, "--quiet", "--digestfile", found.name, image, f"docker://{target}"),
            env=ENVIRONMENT,
        )
        return f"{target}@{found.read().strip()}"


def plain(registry: str) -> bool:
    """Whether a registry may speak plain HTTP: localhost, or an address (not a name) of a private network."""
    host = urlsplit(f"//{registry}").hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def say(image: str, commands: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What programs of an image print in one container of it, by the names of the commands; as an arbitrary user, as
    OpenShift gives one."""
    container = run(*_buildah("from", "--pull-never", image), env=ENVIRONMENT).strip().splitlines()[-1]
    try:
        words = _buildah("run", "--user", "1000800000:0", container, "--")
        return {name: run(*words, *command, env=ENVIRONMENT).strip() for name, command in commands.items()}
    finally:
        run(*_buildah("rm", container), env=ENVIRONMENT)


def export(image: str, archive: Path) -> None:
    """Write an image as a docker archive, under the name localhost/IMAGE."""
    archive.unlink(missing_ok=True)
    run(*_buildah("push", "--quiet", image, f"docker-archive:{archive}:localhost/{image}"), env=ENVIRONMENT)


def _settings_of_this_machine() -> dict[Path, str]:
    """Read-only: the certificate bundle, and pip's configuration where the machine has one."""
    found: dict[Path, str] = {}
    if CA_BUNDLE.exists():
        found[CA_BUNDLE] = f"{CA_BUNDLE}:ro"
    if (configuration := Path(os.environ.get("PIP_CONFIG_FILE") or "/etc/pip.conf")).exists():
        found[configuration] = "/etc/pip.conf:ro"
    return found
