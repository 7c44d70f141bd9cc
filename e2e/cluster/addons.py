"""What a cluster needs in pods of its own: pause, names, volumes. The images are static programs, nothing pulled."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cluster import base, buildah, layout, programs, registry
from cluster.console import run
from cluster.controlplane import ControlPlane
from cluster.layout import HERE, cache, digest_of


@dataclass(frozen=True, slots=True)
class Images:
    """Name and tag of each, as pushed to the registry. The tag says what it was made from."""

    pause: str
    coredns: str
    local_path: str
    base: str


def images() -> Images:
    """Build and push what the registry lacks."""
    pause, coredns, local_path = _pause(), programs.build(programs.COREDNS), programs.build(programs.LOCAL_PATH)
    return Images(
        pause=_static(pause, pause.parent.name, ["/pause"]),
        coredns=_static(coredns, coredns.parent.name, ["/coredns"]),
        local_path=_static(local_path, local_path.parent.name, ["/local-path"]),
        base=_base(),
    )


def apply(plane: ControlPlane, names: Images) -> None:
    """Names and volumes; they come up while others go on."""
    values = {
        "REGISTRY": layout.REGISTRY,
        "DNS_IP": layout.DNS_IP,
        "COREDNS": names.coredns,
        "LOCAL_PATH": names.local_path,
        "BASE": names.base,
    }
    for name in ("coredns", "storage"):
        text = (HERE / "manifests" / f"{name}.yaml").read_text()
        for key, value in values.items():  # not string.Template: the scripts inside have dollars of their own
            text = text.replace("${" + key + "}", value)
        run(plane.programs / "kubectl", f"--kubeconfig={plane.state.kubeconfig}", "apply", "-f", "-", input=text)


def _pause() -> Path:
    source = HERE / "images" / "pause.c"
    built = cache() / f"pause-{digest_of(source)}" / "pause"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        run("gcc", "-Os", "-static", "-s", "-o", built, source)
    return built


def _static(program: Path, key: str, command: list[str]) -> str:
    """An image that holds one static program."""
    name, _, tag = key.rpartition("-")
    image = f"{name}:{tag}"
    if not registry.has(name, tag):
        folder = cache() / "static" / key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy2(program, folder / program.name)
        quoted = ", ".join(f'"{word}"' for word in command)
        (folder / "Dockerfile").write_text(f"FROM scratch\nCOPY {program.name} /\nENTRYPOINT [{quoted}]\n")
        buildah.build(image, folder / "Dockerfile", folder, {}, {}, folder / "build.log")
        buildah.push(image)
    return image


def _base() -> str:
    name, _, tag = base.IMAGE.partition(":")
    if not registry.has(name, tag):
        buildah.push(base.import_base())
    return base.IMAGE
