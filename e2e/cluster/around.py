"""A command with a cluster around it: up, images, the command, what the logs say if it fails, down."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster import bare, existing, images, kind
from cluster.console import ClusterError, run, stage
from cluster.layout import STATE
from cluster.programs import kube

UP: dict[str, Callable[[], None]] = {"bare": bare.up, "kind": kind.up, "existing": existing.check}
DOWN: dict[str, Callable[[], None]] = {"bare": bare.down, "kind": kind.down, "existing": existing.leave}
THERE: dict[str, Callable[[], bool]] = {"bare": STATE.root.exists, "kind": kind.exists, "existing": lambda: True}
IMAGES = ("operator", "runtime", "client", "engines")


def around(provider: str, kubeconfig: Callable[[], Path], command: Sequence[str]) -> int:
    """Run a command with E2E_IMAGES set; its exit code. A cluster that was there before stays."""
    if not os.environ.get("E2E_IMAGES"):
        images.make_room(IMAGES, here=provider != "existing")  # before anything else takes its time
    was_there = THERE[provider]()
    failed = True
    try:
        with stage("cluster"):
            UP[provider]()
        with stage("images"):
            given = os.environ.get("E2E_IMAGES") or _images(provider)
        with stage("tests on the cluster"):
            code = subprocess.run(command, env={**os.environ, "E2E_IMAGES": given}).returncode
        failed = code != 0
        return code
    finally:
        if failed:
            print(_story(kubeconfig()), flush=True)
        if not was_there:
            with stage("cluster-down"):
                DOWN[provider]()


def _images(provider: str) -> str:
    """Engines for this very CPU where the cluster is on this machine: their wheel is there since `make up`."""
    references = images.load(provider, IMAGES, native=provider != "existing")
    return " ".join(f"{key}={reference}" for key, reference in zip(IMAGES, references, strict=True))


def _story(kubeconfig: Path) -> str:
    """What the cluster and its daemons said last."""
    parts = []
    for words in (
        ("get", "pods", "-A", "-o", "wide"),
        ("get", "events", "-A", "--sort-by=.lastTimestamp"),
        (
            "logs",
            "-n",
            "llmservice-system",
            "-l",
            "app.kubernetes.io/name=llmservice-operator",
            "--tail=40",
            "--prefix",
        ),
    ):
        try:
            lines = run(kube() / "kubectl", f"--kubeconfig={kubeconfig}", "--request-timeout=20s", *words).splitlines()
        except ClusterError as error:
            lines = [error.reason]
        parts.append("\n".join([f"--- kubectl {' '.join(words)}", *lines[-60:]]))
    logs = sorted((STATE.root / "log").glob("*.log"))
    parts += ["\n".join([f"--- {log}", *log.read_text(errors="replace").splitlines()[-10:]]) for log in logs]
    return "\n".join(parts)
