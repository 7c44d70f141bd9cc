"""What a cluster needs in pods of its own: pause, names, volumes. The images are static programs, nothing pulled."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster import base, buildah, layout, programs, registry
from cluster.artefact import alone, obtain
from cluster.console import run, run_logged
from cluster.controlplane import ControlPlane
from cluster.layout import HERE, cache, digest_of


@dataclass(frozen=True, slots=True)
class Images:
    """Name and tag of each, as pushed to the registry. The tag says what it was made from."""

    pause: str
    coredns: str
    local_path: str
    base: str


_PAUSE_SOURCE = HERE / "images" / "pause.c"
PAUSE = f"pause-{digest_of(_PAUSE_SOURCE)}"


def images() -> Images:
    """Build and push what the registry lacks."""
    coredns, local_path = programs.COREDNS, programs.LOCAL_PATH
    return Images(
        pause=static(_pause(), PAUSE, ["/pause"]),
        coredns=static(programs.build(coredns), coredns.key, ["/coredns"]),
        local_path=static(programs.build(local_path), local_path.key, ["/local-path"]),
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
    def make(folder: Path, log: Path) -> None:
        run_logged(log, "gcc", "-Os", "-static", "-s", "-o", folder / "pause", _PAUSE_SOURCE)

    return obtain(PAUSE, "compile pause", make) / "pause"


def static(program: Path, key: str, command: list[str]) -> str:
    """An image that holds one static program, built and pushed when the registry lacks it; its name and tag."""
    name, _, tag = key.rpartition("-")
    image = f"{name}:{tag}"
    with alone(f"image-{key}"):
        if not registry.has(name, tag):
            with TemporaryDirectory(dir=cache()) as made:
                folder = Path(made)
                shutil.copy2(program, folder / program.name)
                quoted = ", ".join(f'"{word}"' for word in command)
                (folder / "Dockerfile").write_text(f"FROM scratch\nCOPY {program.name} /\nENTRYPOINT [{quoted}]\n")
                buildah.build(image, folder / "Dockerfile", folder, {}, {}, cache() / f"image-{key}.log")
            buildah.push(image)
    return image


def _base() -> str:
    name, _, tag = base.IMAGE.partition(":")
    if not registry.has(name, tag):
        buildah.push(base.import_base())
    return base.IMAGE
