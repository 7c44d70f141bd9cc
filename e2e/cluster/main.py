"""The command line: one entry for every provider."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from cluster import api, around, bare, existing, images, kind, programs
from cluster.console import ClusterError, warn
from cluster.layout import STATE

PROVIDERS = ("bare", "kind", "existing")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with what failed and what to do."""
    arguments, rest = _parser().parse_known_args(argv)
    if rest and arguments.command not in ("kubectl", "helm"):
        warn(f"error: unknown arguments: {' '.join(rest)}")
        return 2
    try:
        return _COMMANDS[arguments.command](arguments, rest) or 0
    except ClusterError as error:
        warn(f"error: {error.reason}")
        if error.remedy:
            warn(f"fix: {error.remedy}")
        return 1
    except KeyboardInterrupt:
        return 130


def provider(asked: str = "") -> str:
    """E2E_PROVIDER, else kind where a container engine answers and kind is installed, else bare."""
    name = asked or os.environ.get("E2E_PROVIDER", "")
    if name and name not in PROVIDERS:
        raise ClusterError(f"There is no provider {name}.", f"Use one of: {', '.join(PROVIDERS)}.")
    return name or ("kind" if kind.possible() else "bare")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster", description="A Kubernetes cluster for development and CI.")
    parser.add_argument(
        "--provider", default="", help="bare, kind or existing; default: $E2E_PROVIDER, else what works"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="bring the cluster up, or what of it is missing")
    commands.add_parser("down", help="remove it without a trace, from any state")
    commands.add_parser("status", help="what runs")
    commands.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig")
    load = commands.add_parser("load-images", help="build our images and push them to the cluster's registry")
    load.add_argument("image", nargs="*", help=f"default: {' '.join(images.IMAGES)}")
    load.add_argument("--native", action="store_true", help="engines for this CPU: quick after `make up`, not portable")
    build = commands.add_parser("build-images", help="build our images, for no cluster")
    build.add_argument("image", nargs="*", help=f"default: {' '.join(images.IMAGES)}; also {' '.join(images.TOOLS)}")
    build.add_argument("--native", action="store_true", help="engines for this CPU")
    tell = commands.add_parser("engine-versions", help="import the engines of built images, and print their versions")
    tell.add_argument("image", nargs="*", help="default: runtime; also engines cuda engines-cuda")
    commands.add_parser("prune-images", help="remove what builds have left beside their images")
    same = commands.add_parser("reproduce-images", help="build our images twice; fails when their digests differ")
    same.add_argument("image", nargs="*", help=f"default: {' '.join(images.IMAGES)}")
    same.add_argument("--native", action="store_true", help="engines for this CPU")
    inside = commands.add_parser("around", help="up, load-images, run a command, down: cluster around pytest ...")
    inside.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    commands.add_parser("programs", help="bring what tests run on: etcd, Kubernetes, helm, Prometheus")
    commands.add_parser("kubectl", help="kubectl on the cluster: cluster kubectl get pods")
    commands.add_parser("helm", help="helm on the cluster")
    for name, text in (("api-up", "etcd and API server alone, on loopback"), ("api-down", "stop those")):
        commands.add_parser(name, help=text).add_argument("folder", type=Path)
    return parser


def kubeconfig(name: str) -> Path:
    """The administrator's kubeconfig of a provider's cluster."""
    return {"bare": lambda: STATE.kubeconfig, "kind": kind.kubeconfig, "existing": existing.kubeconfig}[name]()


def _up(arguments: argparse.Namespace, _: list[str]) -> None:
    name = provider(arguments.provider)
    around.UP[name]()
    print(f"kubeconfig: {kubeconfig(name)}")


def _down(arguments: argparse.Namespace, _: list[str]) -> None:
    around.DOWN[provider(arguments.provider)]()


def _status(arguments: argparse.Namespace, _: list[str]) -> None:
    name = provider(arguments.provider)
    print(bare.status() if name == "bare" else f"{name}: {kubeconfig(name)}")


def _load(arguments: argparse.Namespace, _: list[str]) -> None:
    name = provider(arguments.provider)
    for reference in images.load(name, arguments.image or list(images.IMAGES), arguments.native):
        print(reference)


def _build(arguments: argparse.Namespace, _: list[str]) -> None:
    for line in images.build_all(arguments.image or list(images.IMAGES), arguments.native):
        print(line)


def _versions(arguments: argparse.Namespace, _: list[str]) -> None:
    for line in images.versions(arguments.image or ["runtime"]):
        print(line)


def _reproduce(arguments: argparse.Namespace, _: list[str]) -> None:
    for line in images.reproduce(arguments.image or list(images.IMAGES), arguments.native):
        print(line)


def _around(arguments: argparse.Namespace, _: list[str]) -> int:
    name = provider(arguments.provider)
    return around.around(name, lambda: kubeconfig(name), arguments.words)


def _become(program: Path | str, arguments: argparse.Namespace, words: list[str]) -> None:
    """Replace this process by a client of the cluster; ~/.kube/config is never read."""
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig(provider(arguments.provider)))}
    os.execve(program, [Path(program).name, *words], environment)


def _kubectl(arguments: argparse.Namespace, words: list[str]) -> None:
    _become(programs.kube() / "kubectl", arguments, words)


def _helm(arguments: argparse.Namespace, words: list[str]) -> None:
    _become(programs.helm(), arguments, words)


def _programs(*_: object) -> None:
    print(programs.kube())
    print(programs.helm())
    print(programs.prometheus())


_COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int | None]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "kubeconfig": lambda arguments, _: print(kubeconfig(provider(arguments.provider))),
    "load-images": _load,
    "build-images": _build,
    "engine-versions": _versions,
    "prune-images": lambda *_: images.prune(),
    "reproduce-images": _reproduce,
    "around": _around,
    "programs": _programs,
    "kubectl": _kubectl,
    "helm": _helm,
    "api-up": lambda arguments, _: print(api.api_up(arguments.folder)),
    "api-down": lambda arguments, _: api.api_down(arguments.folder),
}
